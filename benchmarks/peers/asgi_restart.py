"""An ASGI application that is restarted under load: uvicorn asgi_restart:app, granian --interface asgi asgi_restart:app

What it serves is in ``restart_server.py``.
"""

import asyncio
import os
from typing import Any

PARTS, SIZE = 5, 4096
PLAIN = (b"content-type", b"text/plain")

begun = os.open(os.environ.get("RESTART_BEGUN") or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await answer(scope, send)
    elif scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})


async def answer(scope: dict[str, Any], send: Any) -> None:
    text = scope["query_string"].decode().removeprefix("id=")
    os.write(begun, f"{text} {os.getpid()}\n".encode())
    if scope["path"] == "/parts":
        size = b"%d" % (PARTS * SIZE)
        await send({"type": "http.response.start", "status": 200, "headers": [PLAIN, (b"content-length", size)]})
        for part in range(PARTS):
            if part:
                await asyncio.sleep(0.02)
            body = f"{text} {part} ".ljust(SIZE, ".").encode()
            await send({"type": "http.response.body", "body": body, "more_body": part < PARTS - 1})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.05)
    body = f"{text}\n".encode()
    size = b"%d" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [PLAIN, (b"content-length", size)]})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": event["text"]})
