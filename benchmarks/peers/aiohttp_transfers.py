"""Large bodies with aiohttp on uvloop: aiohttp_transfers.py PORT FILE [CERT KEY]

What ``../http_transfers.py`` does: ``/pieces`` and ``/readall`` take one; ``/file``, ``/write?size=N`` and ``/bytes?size=N``
give one.
"""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import web

PIECE, LARGE = bytes(64 * 1024), bytes(100 * 2**20)
PORT, FILE, *PAIR = sys.argv[1:]


async def pieces(request: web.Request) -> web.Response:
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    return web.Response(text=str(size))


async def readall(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def write(request: web.Request) -> web.StreamResponse:
    size = int(request.query["size"])
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    await response.prepare(request)
    for _ in range(size // len(PIECE)):
        await response.write(PIECE)
    await response.write_eof()
    return response


async def at_once(request: web.Request) -> web.Response:
    return web.Response(body=LARGE[: int(request.query["size"])])


async def file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(FILE)


app = web.Application(client_max_size=2**30)
app.add_routes([
    web.post("/pieces", pieces),
    web.post("/readall", readall),
    web.get("/write", write),
    web.get("/bytes", at_once),
    web.get("/file", file),
])  # fmt: skip
context = None
if PAIR:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*PAIR)
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
web.run_app(app, host="127.0.0.1", port=int(PORT), ssl_context=context, print=None, access_log=None)
