"""The echo server of gevent-websocket: gevent_echo.py PORT [CERT KEY]"""

import sys
from collections.abc import Callable
from typing import Any

from gevent import pywsgi
from geventwebsocket.handler import WebSocketHandler


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    socket = environ["wsgi.websocket"]
    while True:
        message = socket.receive()
        if message is None:
            return []
        socket.send(message)


tls = dict(zip(("certfile", "keyfile"), sys.argv[2:], strict=False))
pywsgi.WSGIServer(("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler, log=None, **tls).serve_forever()
