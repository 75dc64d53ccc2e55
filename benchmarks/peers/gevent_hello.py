"""A hello with gevent's pywsgi: gevent_hello.py PORT"""

import sys
from collections.abc import Callable
from typing import Any

from gevent import pywsgi


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello from Silly!"]


pywsgi.WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
