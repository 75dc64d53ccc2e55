"""The HTTP server of ours that the HTTP clients are tried on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from silly import Error, check, errno
from silly.net.http import ServerStream

from .samples import MIB, binary

SIZE = 8 * MIB
DATA = binary(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()
PIECE = 100_003


def pieces(stream: ServerStream) -> Any:
    """The request's body, piece by piece."""
    while True:
        data, err = stream.read(PIECE)
        if data is None:
            if err is not errno.EOF:
                raise Error(err)
            break
        yield data
    yield check(stream.readall())


def app(stream: ServerStream) -> Any:
    """Answers by path; returns what the test may want to know."""
    plain = {"content-type": "text/plain; charset=utf-8"}
    path = stream.path
    if path == "/hello":
        stream.respond(200, plain)
        stream.closewrite(f"Hello, {stream.query['name'] or 'World'}")
    elif path == "/peer":
        stream.respond(200, plain)
        stream.closewrite(stream.remoteaddr)
    elif path == "/request":
        body = check(stream.readall())
        header = {name: stream.header[name] for name in stream.header}
        told = {"method": stream.method, "version": stream.version, "header": header, "body": body.decode()}
        stream.respond(200, {"content-type": "application/json"})
        stream.closewrite(json.dumps(told))
    elif path == "/echo":
        body, err = stream.readall()
        if body is None:
            return err
        stream.respond(200, plain)
        stream.closewrite(body)
    elif path == "/pieces":
        stream.respond(200, plain)
        for piece in pieces(stream):
            check(stream.write(piece))
    elif path == "/hash":
        digest = hashlib.sha256()
        for piece in pieces(stream):
            digest.update(piece)
        stream.respond(200, plain)
        stream.closewrite(digest.hexdigest())
    elif path == "/download":
        stream.respond(200, {"content-length": SIZE} if stream.query["length"] else {})
        for at in range(0, SIZE, PIECE):
            check(stream.write(DATA[at : at + PIECE]))
    elif path == "/status":
        status = int(stream.query["code"] or 0)
        stream.respond(status, plain)
        stream.closewrite(None if status in (204, 304) else "status")
    elif path == "/forbidden":
        stream.respond(403, plain)
        stream.closewrite("no")
    else:
        stream.respond(404, plain)
        stream.closewrite("nothing here")
    return stream.method, stream.path
