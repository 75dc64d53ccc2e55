"""A WebSocket echo and a hello with aiohttp on uvloop: aiohttp_server.py PORT [compression | CERT KEY]"""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import WSMsgType, web

options = sys.argv[2:]


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=options == ["compression"])
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="Hello from Silly!")


app = web.Application()
app.router.add_get("/", echo)
app.router.add_get("/hello", hello)
context = None
if len(options) == 2:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*options)
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), ssl_context=context, print=None, access_log=None)
