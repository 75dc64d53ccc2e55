"""Our echo server as a script: ``python -m silly silly_server.py``. It greets, and tells what it does on standard output."""

from __future__ import annotations

import silly
from silly.net import http, websocket


def handler(stream):
    sock, _ = websocket.upgrade(stream)
    if sock is None:
        return
    print("ok opened null", flush=True)
    if stream.path == "/greet":
        sock.write("welcome", "text")
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            sock.write(data, typ)
    sock.close()
    print("ok closed null", flush=True)


server = silly.check(http.listen("127.0.0.1:0", handler))
print(f"ok port [{server.port}]", flush=True)
