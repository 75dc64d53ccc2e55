"""A secure WebSocket echo server, to be measured: python -m silly benchmarks/ws_tls.py --port=8443 --cert=FILE --key=FILE"""

from silly import env
from silly.net import http, websocket


def handler(stream):
    sock, _err = websocket.upgrade(stream)
    if sock is None:
        return
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            sock.write(data, typ)
    sock.close()


certs = [{"cert": env.get("cert"), "key": env.get("key")}]
http.listen(addr=f"127.0.0.1:{env.get('port') or 8443}", handler=handler, certs=certs)
