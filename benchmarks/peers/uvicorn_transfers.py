"""Large bodies with uvicorn on uvloop and httptools: uvicorn_transfers.py PORT [CERT KEY]

What ``../http_transfers.py`` does, but for ``/file``: ``/pieces``, ``/readall``, ``/write?size=N``, ``/bytes?size=N``.
"""

import sys
from typing import Any

import uvicorn

PIECE, LARGE = bytes(64 * 1024), bytes(100 * 2**20)


async def begin(send: Any, size: int) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})


async def upload(receive: Any, send: Any, together: bool) -> None:
    size, more, body = 0, True, []
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
        if together:
            body.append(message["body"])
    answer = b"%d" % (len(b"".join(body)) if together else size)
    await begin(send, len(answer))
    await send({"type": "http.response.body", "body": answer})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] in ("/pieces", "/readall"):
        await upload(receive, send, scope["path"] == "/readall")
        return
    size = int(scope["query_string"].partition(b"=")[2])
    await begin(send, size)
    if scope["path"] == "/bytes":
        await send({"type": "http.response.body", "body": LARGE[:size]})
        return
    for _ in range(size // len(PIECE)):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


port, *pair = sys.argv[1:]
tls = dict(zip(("ssl_certfile", "ssl_keyfile"), pair, strict=False))
quiet: dict[str, Any] = {"log_level": "error", "access_log": False}
uvicorn.run(app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", **quiet, **tls)
