"""A WSGI application that is restarted under load: gunicorn -k gevent gevent_restart:app

What it serves is in ``restart_server.py``, but for WebSockets: gevent-websocket, which brought them to gunicorn, has had no
release since 2017.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import gevent

PARTS, SIZE = 5, 4096

begun = os.open(os.environ.get("RESTART_BEGUN") or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes] | list[bytes]:
    text = environ["QUERY_STRING"].removeprefix("id=")
    os.write(begun, f"{text} {os.getpid()}\n".encode())
    if environ["PATH_INFO"] == "/parts":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(PARTS * SIZE))])
        return parts(text)
    if environ["PATH_INFO"] == "/slow":
        gevent.sleep(0.05)
    body = f"{text}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def parts(text: str) -> Iterator[bytes]:
    for part in range(PARTS):
        if part:
            gevent.sleep(0.02)
        yield f"{text} {part} ".ljust(SIZE, ".").encode()
