"""A hello with granian, by its own interface, RSGI: granian_hello.py PORT. It answers in a process that it starts."""

import sys
from typing import Any

from granian import Granian
from granian.constants import Interfaces, Loops


async def app(scope: Any, protocol: Any) -> None:
    protocol.response_str(200, [("content-type", "text/plain")], "Hello from Silly!")


if __name__ == "__main__":
    server = Granian(
        "granian_hello:app",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        log_enabled=False,
    )
    server.serve()
