"""An HTTP server that takes and gives large bodies, to be measured and attacked.

    python -m silly benchmarks/http_transfers.py --port=8080 --cert=FILE --key=FILE --file=FILE --limits="head_timeout=2000"

``/hello``; ``/pieces`` and ``/readall`` take an upload and answer with its size; ``/write?size=N``, ``/fresh?size=N``,
``/bytes?size=N`` and ``/file`` give one: in pieces, in pieces made for it alone, at once, from the file. All options may be
left out.
"""

import silly
from silly import env
from silly.net import http

PIECE = bytes(64 * 1024)
LARGE = bytes(100 * 1024 * 1024)


def pieces(stream):
    size = 0
    pieces = stream.pieces()
    for piece in pieces:
        size += len(piece)
    if pieces.err is None:
        stream.respond(200)
        stream.close(str(size))


def readall(stream):
    body, err = stream.readall(2**30)
    if err is None:
        stream.respond(200)
        stream.close(str(len(body)))


def write(stream, piece):
    size = int(stream.query["size"])
    stream.respond(200, {"content-length": size})
    for _ in range(size // len(piece)):
        if not stream.write(piece):
            break


def handler(stream):
    if stream.path == "/hello":
        stream.respond(200, {"content-type": "text/plain"})
        stream.close("Hello from Silly!")
    elif stream.path == "/pieces":
        pieces(stream)
    elif stream.path == "/readall":
        readall(stream)
    elif stream.path == "/write":
        write(stream, PIECE)
    elif stream.path == "/fresh":
        write(stream, bytearray(PIECE))  # which is copied by each write
    elif stream.path == "/bytes":
        stream.respond(200)
        stream.close(LARGE[: int(stream.query["size"])])
    else:
        root, _, name = env.get("file").rpartition("/")
        http.sendfile(stream, f"/{name}", root)


limits = {name: int(value) for name, value in (pair.split("=") for pair in (env.get("limits") or "").split())}
certs = [{"cert": env.get("cert"), "key": env.get("key")}] if env.get("cert") else None
http.listen(f"127.0.0.1:{env.get('port') or 8080}", handler, certs=certs, limits=silly.Limits(**limits))
