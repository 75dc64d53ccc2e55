"""The cost of a WebSocket echo for the server."""

from __future__ import annotations

from collections.abc import Iterator

from harness.candidates import floor, node, ours, peer
from harness.load import Load
from harness.results import Row
from harness.servers import Settings, load_row

TITLE = "WebSocket echo"
RUNS = 5

PLAIN = [
    ours("ws_echo.py"),
    peer("picows+uvloop", "picows_echo.py", "picows uvloop"),
    peer("socketify", "socketify_server.py", "socketify"),
    peer("websockets+uvloop", "websockets_echo.py", "websockets uvloop"),
    peer("aiohttp+uvloop", "aiohttp_server.py", "aiohttp uvloop"),
    peer("gevent-websocket", "gevent_echo.py", "gevent geventwebsocket"),
    peer("tornado", "tornado_server.py", "tornado"),
    node("ws", "node_echo.js"),
]
PLAIN_LOADS = [
    Load(name="1 connection, 64 bytes", mode="text"),
    Load(name="64 connections, 64 bytes", mode="text", connections=64),
    Load(name="64 connections, 64 bytes, 16 in flight on each", mode="text", connections=64, depth=16),
    Load(name="8 connections, 1 MiB, binary", mode="binary", connections=8, size=2**20),
]

COMPRESSED = [
    ours("ws_deflate.py"),
    peer("websockets+uvloop", "websockets_echo.py", "websockets uvloop", "compression"),
    peer("aiohttp+uvloop", "aiohttp_server.py", "aiohttp uvloop", "compression"),
    peer("tornado", "tornado_server.py", "tornado", "compression"),
    node("ws", "node_echo.js", "compression"),
]
NO_COMPRESSION = {"picows+uvloop": "it has no compression", "gevent-websocket": "it has no compression"}
COMPRESSED_LOAD = Load(
    name="64 connections, 1 KiB of JSON, compressed", mode="text", connections=64, size=1024, compression=True
)


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    for load in PLAIN_LOADS:
        yield load_row(load, [*PLAIN, floor()], settings)
    yield load_row(COMPRESSED_LOAD, COMPRESSED, settings, missing=NO_COMPRESSION)
