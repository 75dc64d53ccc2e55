"""A reverse proxy: HTTP by pieces, WebSockets with subprotocol and close codes, TLS if it has a certificate.

    python -m silly examples/proxy.py --upstream=127.0.0.1:8080 [--port=8443] [--cert=cert.pem --key=key.pem]
"""

import silly
from silly import env, errno, logger, task
from silly.net import addr, http, websocket

UPSTREAM = env.get("upstream") or "127.0.0.1:8080"
CERTS = [{"cert": env.get("cert"), "key": env.get("key")}] if env.get("cert") else None
LIMITS = silly.Limits(message=64 * 2**20)
HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
OURS = {"host", "content-length", "expect", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}

client = http.newclient(decode=False, connect_timeout=2000, max_idle_per_host=50)


def fields(header, without):
    """The fields to pass on: those of this hop stay here (RFC 9110, section 7.6.1)."""
    named = {each.strip().lower() for each in (header["connection"] or "").split(",")}
    return [(name, value) for name in header if name not in without | HOP | named for value in header.getall(name)]


def forwarded(stream):
    peer = addr.parse(stream.remoteaddr)[0]
    before = stream.header["x-forwarded-for"]
    kept = [(name, value) for name, value in fields(stream.header, OURS) if not name.startswith("sec-websocket-")]
    return [
        *kept,
        ("x-forwarded-for", f"{before}, {peer}" if before else peer),
        ("x-forwarded-proto", stream.scheme),
        ("x-forwarded-host", stream.header["host"] or ""),
    ]


def proxy_http(stream):
    upstream, err = client.request(stream.method, f"http://{UPSTREAM}{stream.target}", forwarded(stream))
    if upstream is None:
        bad_gateway(stream, err)
        return
    with upstream:
        body = stream.pieces()
        for piece in body:
            if not upstream.write(piece):
                break  # its answer says why
        if body.err:
            return
        upstream.closewrite()
        status, header = upstream.readheader()
        if status is None:
            bad_gateway(stream, header)
            return
        stream.respond(status, fields(header, set()))
        answer = upstream.pieces()
        for piece in answer:
            if not stream.write(piece):
                return
        if answer.err:
            stream.conn.close()  # cut off: it must not look complete
        else:
            stream.closewrite()


def bad_gateway(stream, err):
    logger.warn(err)
    stream.answer(504 if err.errno == errno.TIMEDOUT else 502, "the server behind this proxy does not answer")


def proxy_websocket(stream):
    offered = [each.strip() for each in (stream.header["sec-websocket-protocol"] or "").split(",") if each.strip()]
    upstream, err = websocket.connect(
        f"ws://{UPSTREAM}{stream.target}", forwarded(stream), subprotocols=offered, timeout=5000, limits=LIMITS
    )
    if upstream is None:
        if isinstance(err, websocket.HandshakeError):  # a refusal: 401, 403, 404
            stream.respond(err.status, {"content-type": err.header["content-type"] or "text/plain"})
            stream.closewrite(err.body)
        else:
            logger.warn(err)
            stream.answer(502, "the server behind this proxy does not answer")
        return
    with upstream:
        chosen = [upstream.subprotocol] if upstream.subprotocol else None
        sock, _err = websocket.upgrade(stream, subprotocols=chosen, origins=False, limits=LIMITS)
        if sock is None:
            return
        # Two tasks, since a peer that does not read must not hold up the other direction.
        with sock, task.group() as g:
            g.fork(pump, upstream, sock)
            g.fork(pump, sock, upstream)


def pump(source, sink):
    """Moves messages one way until the source ends. Each side answers its own pings."""
    try:
        while True:
            data, typ = source.read()
            if data is None or typ == "close":
                break
            if typ in ("text", "binary") and not sink.write(data, typ):
                break
    finally:  # also if this task alone is cancelled: the other direction must end, too
        code = source.closecode
        # 1005 stands for a close without a code; 1006 and 1015 for none at all.
        sink.close(1000 if code == 1005 else 1014 if code in (None, 1006, 1015) else code, source.closereason)


def handler(stream):
    if stream.header["upgrade"] == "websocket":
        proxy_websocket(stream)
    else:
        proxy_http(stream)


server = silly.check(http.listen(addr=f"127.0.0.1:{env.get('port') or 8443}", handler=handler, certs=CERTS))
