"""What TLS costs the server: echoes of WebSocket messages and of lines, and a broadcast."""

from __future__ import annotations

from collections.abc import Iterator

from harness.candidates import Candidate, node, ours, peer
from harness.certificate import make_certificate
from harness.load import Load
from harness.programs import LoadError, tls_load_program
from harness.results import Row
from harness.servers import UNIT, Settings, load_row

TITLE = "TLS"
RUNS = 5

WSS_64 = Load(name="wss, 64 connections, 64 bytes", mode="text", connections=64, tls=True)
ECHO_LOADS = [
    Load(name="wss, 1 connection, 64 bytes", mode="text", tls=True),
    WSS_64,
    Load(name="wss, 64 connections, 64 bytes, 16 in flight on each", mode="text", connections=64, depth=16, tls=True),
    Load(name="wss, 8 connections, 1 MiB, binary", mode="binary", connections=8, size=2**20, tls=True),
]
BROADCAST_LOAD = Load(name="wss, a broadcast to 64", mode="broadcast", connections=64, tls=True)
LINES_64 = Load(name="lines, 64 connections, 64 bytes", mode="lines", connections=64, tls=True)
LINE_LOADS = [
    LINES_64,
    Load(name="lines, 64 connections, 64 bytes, 16 in flight on each", mode="lines", connections=64, depth=16, tls=True),
]
PICOWS = "picows+aiofastnet+uvloop"
"""picows brings aiofastnet, and uses it unless told otherwise."""


def secured(script: str, cert: str, key: str) -> Candidate:
    """A server of ours, with TLS."""
    return ours(script, f"--cert={cert}", f"--key={key}")


def few(*pair: str) -> list[Candidate]:
    """Some of those that echo WebSocket messages; ``pair``: the files of the certificate and its key."""
    return [
        secured("ws_tls.py", *pair),
        peer(PICOWS, "picows_echo.py", "picows aiofastnet uvloop", *pair),
        peer("websockets+uvloop", "websockets_echo.py", "websockets uvloop", *pair),
    ]


def echo(*pair: str) -> list[Candidate]:
    """All of them."""
    return [
        *few(*pair),
        peer("socketify", "socketify_server.py", "socketify", *pair),
        peer("aiohttp+uvloop", "aiohttp_server.py", "aiohttp uvloop", *pair),
        node("ws", "node_echo.js", *pair),
    ]


def broadcast(*pair: str) -> list[Candidate]:
    """Those that send a message to all."""
    return [
        secured("ws_broadcast.py", *pair),
        peer(PICOWS, "picows_broadcast.py", "picows aiofastnet uvloop", *pair),
        peer("socketify", "socketify_broadcast.py", "socketify", *pair),
        peer("websockets+uvloop", "websockets_broadcast.py", "websockets uvloop", *pair),
    ]


def lines(*pair: str) -> list[Candidate]:
    """Those that echo lines."""
    return [
        secured("tls_echo.py", *pair),
        peer("asyncio streams+uvloop", "asyncio_tcp.py", "uvloop", "uvloop", *pair),
        peer("asyncio streams+aiofastnet+uvloop", "asyncio_tcp.py", "aiofastnet uvloop", "aiofastnet", *pair),
    ]


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    kinds = [(ECHO_LOADS, echo, UNIT), ([BROADCAST_LOAD], broadcast, "CPU µs a receiver"), (LINE_LOADS, lines, "CPU µs a line")]
    try:
        tls_load_program()
        pair = make_certificate(settings.directory)
    except LoadError as exc:
        for loads, _candidates, unit in kinds:
            yield from (Row(load.name, unit, {}, missing={"everybody": str(exc)}) for load in loads)
        return
    for loads, candidates, unit in kinds:
        for load in loads:
            yield load_row(load, candidates(*pair), settings, unit)
