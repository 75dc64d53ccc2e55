"""The server that `make soak` reads from slowly. `python -m tests.soak.server FOLDER`

It listens on two free ports, with and without TLS, and on the Unix socket FOLDER/back, where nginx expects it. ``/bytes/SIZE``
answers with so many bytes at once; ``/file/SIZE`` sends the file of that name in FOLDER. The limits are the defaults.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import silly
from silly.net import http
from tests.net import authorities
from tests.soak.bodies import body


def main() -> None:
    folder = Path(sys.argv[1])
    bodies: dict[str, bytes] = {}

    def handler(stream: Any) -> None:
        _, kind, size = stream.path.split("/")
        if kind == "file":
            http.sendfile(stream, f"/{size}", folder)
            return
        if size not in bodies:
            bodies[size] = body(int(size))
        stream.respond(200)
        stream.close(bodies[size])

    plain = silly.check(http.listen("127.0.0.1:0", handler))
    secure = silly.check(http.listen("127.0.0.1:0", handler, certs=[authorities.server().entry]))
    silly.check(http.listen(f"unix:{folder / 'back'}", handler))
    print(json.dumps({"plain": plain.port, "tls": secure.port}), flush=True)
    silly.run()


main()
