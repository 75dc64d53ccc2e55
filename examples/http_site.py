"""A site: static files, an API, a WebSocket, an access log, and a graceful end.

Run:  python -m silly examples/http_site.py [--addr=127.0.0.1:8080] [--root=examples]
Then: open the URL that it logs; POST /drain ends it when all running requests are finished.
"""

import silly
from silly import env, task
from silly.net import http, websocket

router = http.router()
visits = {}


@router.get("/api/visits/{name}")
def visit(stream, name):
    visits[name] = visits.get(name, 0) + 1
    stream.respond(200, {"content-type": "text/plain"})
    stream.closewrite(f"{visits[name]}\n")


@router.post("/drain")
def drain(stream):
    stream.respond(202)
    task.fork(shut_down)  # not here: it waits for this handler too


@router.websocket("/echo")
def echo(stream):
    sock, _err = websocket.upgrade(stream)
    if sock is None:
        return
    while True:
        data, typ = sock.read()
        if data is None or typ == "close":
            break
        if typ in ("text", "binary"):
            sock.write(data, typ)


@router.get("/{path...}")
def files(stream, path):
    http.sendfile(stream, stream.path, env.get("root") or "examples", index="chat.html")


def shut_down():
    server.drain(10_000)
    silly.exit()


server, err = http.listen(addr=env.get("addr") or "127.0.0.1:8080", handler=router, accesslog="combined")
