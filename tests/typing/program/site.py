"""An HTTP server with a query and a router."""

from silly.net import http

app = http.router()


@app.get("/greet")
def greet(stream: http.ServerStream) -> None:
    name = stream.query["name"]
    stream.respond(200, {"content-type": "text/plain"})
    stream.close("Hello, " + (name or "World"))


@app.route(["PUT", "POST"], "/files/{name}")
def save(stream: http.ServerStream, name: str) -> None:
    body, err = stream.readall(limit=2**20)
    if body is None:
        print(err)
        return
    with open(name, "wb") as file:
        file.write(body)
    stream.answer(204)


def plain(stream: http.ServerStream) -> int:
    length = stream.header["content-length"]
    stream.answer(200, "plain" if length is None else length.upper())
    return 5


app.get("/plain", plain)
server, err = http.listen("127.0.0.1:8080", app, accesslog="common")
if server is not None:
    server.drain(1000)


def wrong(stream: http.ServerStream) -> None:
    stream.header["content-length"].upper()  # wrong: union-attr, reportOptionalMemberAccess
    stream.respond("200")  # wrong: arg-type, reportArgumentType
    app.get("/number", 5)  # wrong: arg-type, reportArgumentType
    http.listen("127.0.0.1:8080", 5)  # wrong: arg-type, reportArgumentType
