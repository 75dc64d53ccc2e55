"""Echoes over WebSocket for a page in a browser: ``python -m silly websocket_server.py``. Prints the ports of its two origins.

All goes through a relay that counts bytes. Paths: ``/`` the page with its ``/socket.js``, ``/outcomes`` how the connections
ended, and WebSockets: ``/ws`` for the same origin, ``/listed`` for pages of the second origin, ``/open`` for any.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import silly
from silly.net import http, websocket
from tests.interop.relay import Relay

HERE = Path(__file__).parent
READ = 20_000
outcomes = []


def told(sock):
    """What a connection has negotiated, and what was asked for."""
    header = sock.stream.header
    return {
        "compression": dataclasses.asdict(sock.compression) if sock.compression else None,
        "extensions": header["sec-websocket-extensions"],
        "offered": header["sec-websocket-protocol"],
        "origin": header["origin"],
        "subprotocol": sock.subprotocol,
    }


def latency(sock):
    """Reads until the browser has answered a keepalive ping, whose pong is not shown."""
    for _ in range(READ // 5):
        if sock.latency is not None:
            break
        sock.read(5)
    return sock.latency


def converse(sock):
    """Echoes; some texts are commands."""
    while True:
        data, typ = sock.read(READ)
        if data is None or typ == "close":
            break
        if data == "told":
            sock.write(json.dumps(told(sock)), "text")
        elif data == "counts":
            sock.write(json.dumps(relay.counts()), "text")
        elif data == "latency":
            sock.write(json.dumps(latency(sock)), "text")
        elif typ == "text" and data.startswith("close "):
            sock.close(int(data[6:10]), data[11:])
        else:
            sock.write(data, typ)
    outcomes.append([sock.closecode, sock.closereason, sock.cause])
    sock.close()


def handler(stream):
    if stream.path in ("/", "/socket.js"):
        http.sendfile(stream, stream.path, HERE, index="websocket_page.html")
    elif stream.path == "/outcomes":
        stream.respond(200, {"content-type": "application/json"})
        stream.closewrite(json.dumps(outcomes))
    elif stream.path in ("/ws", "/listed", "/open"):
        origins = {"/ws": None, "/listed": [f"http://127.0.0.1:{second.port}"], "/open": False}[stream.path]
        options = {} if "plain" in stream.query else {"compression": {"threshold": 0}}
        limits = silly.Limits(ping_interval=50)
        sock, _ = websocket.upgrade(stream, subprotocols=["chat.v2", "chat"], origins=origins, limits=limits, **options)
        if sock is not None:
            converse(sock)
    else:
        stream.respond(404, {})
        stream.closewrite("")


server = silly.check(http.listen("127.0.0.1:0", handler))
relay = Relay(server.port)
second = Relay(server.port)
print(json.dumps([relay.port, second.port]), flush=True)
