"""A server that is restarted under load: python -m silly benchmarks/restart_server.py --listen=127.0.0.1:8080

``/fast`` answers at once, ``/slow`` after 50 ms, ``/parts`` in five parts within 80 ms; ``/ws`` is a WebSocket echo. It
writes the number of each request and its own pid to the file in ``RESTART_BEGUN``, before it answers: what a client can't
see, namely whether a request without an answer had reached the program, and which workers serve. ``peers/*_restart.py`` do
the same.
"""

import os

from silly import env, time
from silly.net import http, websocket

PARTS, SIZE = 5, 4096

begun = os.open(os.environ.get("RESTART_BEGUN") or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
router = http.router()


def number(stream):
    text = stream.query["id"]
    os.write(begun, f"{text} {os.getpid()}\n".encode())
    return text


@router.get("/fast")
def fast(stream):
    stream.respond(200, {"content-type": "text/plain"})
    stream.close(f"{number(stream)}\n")


@router.get("/slow")
def slow(stream):
    text = number(stream)
    time.sleep(50)
    stream.respond(200, {"content-type": "text/plain"})
    stream.close(f"{text}\n")


@router.get("/parts")
def parts(stream):
    text = number(stream)
    stream.respond(200, {"content-type": "text/plain", "content-length": PARTS * SIZE})
    for part in range(PARTS):
        if part:
            time.sleep(20)
        stream.write(f"{text} {part} ".ljust(SIZE, "."))
    stream.close()


@router.websocket("/ws")
def echo(stream):
    sock, _err = websocket.upgrade(stream)
    if sock is None:
        return
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            sock.write(data, typ)


http.listen(addr=env.get("listen") or "127.0.0.1:8080", handler=router)
