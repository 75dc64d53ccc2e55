"""A hello with uvicorn on uvloop and httptools: uvicorn_hello.py PORT"""

import sys
from typing import Any

import uvicorn

BODY = b"Hello from Silly!"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})


port = int(sys.argv[1])
uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="error", access_log=False)
