"""An HTTP server that says hello, and echoes what is posted to it.

Run:  python -m silly examples/http_hello.py [--addr=127.0.0.1:8080]
Then: curl 'http://127.0.0.1:8080/?name=World'   or   curl -d 'some text' http://127.0.0.1:8080/
"""

from silly import env
from silly.net import http


def handler(stream):
    if stream.method == "POST":
        body, err = stream.readall()
        if body is None:
            print("Read error:", err)
            return
        stream.respond(200, {"content-type": "application/octet-stream"})
        stream.closewrite(body)
    else:
        stream.respond(200, {"content-type": "text/plain; charset=utf-8"})
        stream.closewrite(f"Hello, {stream.query['name'] or 'stranger'}!\n")


http.listen(addr=env.get("addr") or "127.0.0.1:8080", handler=handler)
