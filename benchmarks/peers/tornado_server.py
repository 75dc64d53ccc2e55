"""A WebSocket echo and a hello with Tornado: tornado_server.py PORT [compression | CERT KEY]"""

import asyncio
import ssl
import sys
from typing import Any

import tornado.httpserver
import tornado.web
import tornado.websocket

options = sys.argv[2:]


class Echo(tornado.websocket.WebSocketHandler):
    def get_compression_options(self) -> dict[str, Any] | None:
        return {} if options == ["compression"] else None

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


class Hello(tornado.web.RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain")
        self.write("Hello from Silly!")


async def main(port: int) -> None:
    context = None
    if len(options) == 2:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*options)
    app = tornado.web.Application([("/", Echo), ("/hello", Hello)])
    tornado.httpserver.HTTPServer(app, ssl_options=context).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1])))
