"""HTTPS and WSS for a page in a browser: ``python -m silly tls_server.py --directory=DIRECTORY``.

The directory has certificates, ``NAME.crt`` and ``NAME.key``, the authority of all but one, ``authority.pem``, and the
directory ``files``; access logs come to it. Prints the ports of its servers, by name. They have the same routes; ``good`` is
the one whose certificate is right, ``request`` and ``require`` ask for client certificates.
"""

from __future__ import annotations

import json
from pathlib import Path

from OpenSSL import SSL

import silly
from silly import env
from silly.net import http, websocket
from silly.sync import channel

HERE = Path(__file__).parent
AT_ONCE = 4
"""Requests that are answered when they are all there: a browser has up to 6 connections for HTTP/1.1 to a host."""
WITHIN = 10_000
"""Milliseconds; only bounds a test that fails."""

directory = Path(env.get("directory"))
router = http.router()
ranges = []
gathered = []
may_go_on = channel.new()


def answer(stream, value, header=None):
    stream.respond(200, {"content-type": "application/json", "cache-control": "no-store", **(header or {})})
    stream.close(json.dumps(value))


@router.get("/")
def page(stream):
    http.sendfile(stream, "/tls_page.html", HERE, header={"cache-control": "no-cache"})


@router.get("/socket.js")
def script(stream):
    http.sendfile(stream, stream.path, HERE, header={"cache-control": "no-cache"})


@router.get("/files/{path...}")
def file(stream, path):
    ranges.append([path, stream.header["range"]])
    http.sendfile(stream, stream.path.removeprefix("/files"), directory / "files", header={"cache-control": "no-cache"})


@router.get("/ranges")
def asked(stream):
    """The files that were asked for, with the Range of each."""
    answer(stream, ranges)


@router.get("/told")
def told(stream):
    """What it sees of a request. For pages of every origin."""
    fields = {
        "method": stream.method,
        "query": dict(stream.query),
        "scheme": stream.scheme,
        "host": stream.header["host"],
        "origin": stream.header["origin"],
        "alpn": stream.conn.alpnproto(),
        "from": stream.remoteaddr,
        "certificate": stream.conn.peercert() is not None,
    }
    answer(stream, fields, {"access-control-allow-origin": "*"})


@router.get("/last")
def last(stream):
    """Whether the connection, which this ends, has resumed a TLS session."""
    resumed = SSL._lib.SSL_session_reused(stream.conn._stream.ssl._ssl)  # pyOpenSSL has no call for it
    answer(stream, {"resumed": resumed == 1}, {"connection": "close"})


@router.post("/echo")
def echo(stream):
    body = silly.check(stream.readall(2**20))
    stream.respond(200, {"content-type": "application/octet-stream"})
    stream.close(body)


@router.get("/together/{number}")
def together(stream, number):
    """The first wait for one another."""
    if gathered is not None:
        wait_for_others()
    answer(stream, {"number": int(number), "from": stream.remoteaddr})


def wait_for_others():
    global gathered
    done = channel.new()
    gathered.append(done)
    if len(gathered) == AT_ONCE:
        for each in gathered:
            each.push(True)
        gathered = None
    with silly.time.deadline(WITHIN):
        silly.check(done.pop())


@router.get("/pieces")
def pieces(stream):
    """The next piece is sent once the page, having read the one before, asks for it."""
    stream.respond(200, {"content-type": "application/octet-stream", "cache-control": "no-store"})
    for number in range(5):
        stream.write(f"piece {number}")
        stream.flush()
        with silly.time.deadline(WITHIN):
            silly.check(may_go_on.pop())
    stream.close("the end", trailer={"pieces": "6"})


@router.post("/goon")
def goon(stream):
    may_go_on.push(True)
    answer(stream, {})


@router.post("/short")
def short(stream):
    """Takes little."""
    stream.readall(1000)


@router.post("/refused")
def refused(stream):
    """Reads nothing."""
    stream.respond(403, {"content-type": "text/plain"})
    stream.close("Forbidden\n")


@router.post("/renew")
def renew(stream):
    answer(stream, {"renewed": good.reload([pair("renewed")])})


@router.post("/drain")
def drain(stream):
    silly.task.fork(lambda: silly.check(good.drain(WITHIN)))
    answer(stream, {})


@router.websocket("/")
def converse(stream):
    sock, _ = websocket.upgrade(stream, compression="plain" not in stream.query)
    if sock is None:
        return
    while True:
        data, kind = sock.read()
        if data is None or kind == "close":
            break
        sock.write(data, kind)


def pair(name):
    return {"cert": directory / f"{name}.crt", "key": directory / f"{name}.key"}


def listen(name, cert, **options):
    log = http.AccessLog("json", directory / f"{name}.log")
    return silly.check(http.listen("127.0.0.1:0", router, certs=[pair(cert)], accesslog=log, **options))


good = listen("good", "good")
servers = {"good": good} | {name: listen(name, name) for name in ("stranger", "wrong", "expired")}
for verify in ("request", "require"):
    servers[verify] = listen(verify, "good", ca=directory / "authority.pem", verify=verify)
print(json.dumps({name: server.port for name, server in servers.items()}), flush=True)
