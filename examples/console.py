"""A console in the browser's reach: a WebSocket that is joined to a TCP service, such as a shell's or VNC's.

    python -m silly examples/console.py --target=127.0.0.1:5900 [--port=8080] [--idle=60000]

POST /token answers with a token; a WebSocket at /console?token=… uses it up, within 10 s. Bytes
go both ways, as binary messages. One task serves both directions: `select` says which has something.
So it is the one place that knows whether either was used within `idle` ms.
"""

import secrets

import silly
from silly import env, task, time
from silly.net import http, tcp, websocket

TARGET = env.get("target") or "127.0.0.1:5900"
IDLE = int(env.get("idle") or 60_000)
FRESH = 10_000  # ms for which a token is good
PIECE = 64 * 1024  # bytes of one message

tokens = {}


def token(stream):
    new = secrets.token_urlsafe()
    tokens[new] = time.after(FRESH, tokens.pop, new, None)
    stream.answer(200, new)


def console(stream):
    timer = tokens.pop(stream.query["token"], None)
    if timer is None:
        stream.answer(403, "this token is used up, or none of ours")
        return
    time.cancel(timer)
    target, err = tcp.connect(TARGET, timeout=2000)
    if target is None:
        stream.answer(502, err)
        return
    with target:
        sock, _err = websocket.upgrade(stream)
        if sock is not None:
            sock.close(*join(sock, target))


def join(sock, target):
    """Moves bytes both ways until one side ends. Returns the close code and the reason."""
    first, second = sock, target
    used = time.monotonic()
    while (left := used + IDLE - time.monotonic()) > 0:
        which, _err = task.select(first, second, timeout=left)
        if which is None:
            break
        # The other one is asked first next time, so neither has to wait for long.
        first, second = (target, sock) if which is sock else (sock, target)
        if which is sock:
            data, typ = sock.read()
            if data is None or typ == "close":
                return 1000, ""
            if typ not in ("text", "binary"):
                continue  # a ping: the peer is there, but doesn't use the console
            if not target.write(data):
                return 1014, "the target does not take data"
        else:
            data, _err = target.readsome(PIECE)
            if data is None:
                return 1000, "the target has ended"
            if not sock.write(data):
                return 1000, ""
        used = time.monotonic()
    return 4000, "idle for too long"


router = http.router()
router.post("/token", token)
router.get("/console", console)
server = silly.check(http.listen(addr=f"127.0.0.1:{env.get('port') or 8080}", handler=router))
