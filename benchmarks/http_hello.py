"""An HTTP server that says hello, to be measured: python -m silly benchmarks/http_hello.py --port=8080"""

from silly import env
from silly.net import http


def handler(stream):
    if stream.path == "/hello":
        stream.respond(200, {"content-type": "text/plain"})
        stream.close("Hello from Silly!")
    else:
        stream.respond(404, {"content-type": "text/plain"})
        stream.close("Not Found")


http.listen(addr=f"127.0.0.1:{env.get('port') or 8080}", handler=handler)
