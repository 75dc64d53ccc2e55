"""A WebSocket echo server that compresses, to be measured: python -m silly benchmarks/ws_deflate.py --port=8080"""

from silly import env
from silly.net import http, websocket


def handler(stream):
    sock, _err = websocket.upgrade(stream, compression=True)
    if sock is None:
        return
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            sock.write(data, typ)
    sock.close()


http.listen(addr=f"127.0.0.1:{env.get('port') or 8080}", handler=handler)
