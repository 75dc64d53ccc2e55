"""A server that sends what it gets to all, to be measured: python -m silly benchmarks/ws_broadcast.py --port=8080

With ``--cert=FILE --key=FILE`` over TLS.
"""

from silly import env
from silly.net import http, websocket

socks = set()


def handler(stream):
    sock, _err = websocket.upgrade(stream)
    if sock is None:
        return
    socks.add(sock)
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            for each in list(socks):
                each.write(data, typ)
    socks.remove(sock)
    sock.close()


certs = [{"cert": env.get("cert"), "key": env.get("key")}] if env.get("cert") else None
http.listen(addr=f"127.0.0.1:{env.get('port') or 8080}", handler=handler, certs=certs)
