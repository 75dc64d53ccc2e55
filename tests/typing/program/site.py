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


@app.websocket("/chat")
@app.get("/status")
def status(stream: http.ServerStream) -> int:
    agent: str = stream.header.get("user-agent", "")
    page: str | None = stream.query.get("page") or stream.header.get("referer")
    stream.answer(200, f"{agent}: {page}")
    return 5


def wrong(stream: http.ServerStream) -> None:
    stream.query["name"].upper()  # wrong: union-attr, reportOptionalMemberAccess
    stream.header.get("referer").upper()  # wrong: union-attr, reportOptionalMemberAccess
    stream.header.get("referer", 5).upper()  # wrong: union-attr, reportAttributeAccessIssue
    status("/")  # wrong: arg-type, reportArgumentType
    status(stream).upper()  # wrong: attr-defined, reportAttributeAccessIssue
    save(stream)  # wrong: call-arg, reportCallIssue
    app.get("/status", plain)(stream).upper()  # wrong: attr-defined, reportAttributeAccessIssue
    stream.header["content-length"].upper()  # wrong: union-attr, reportOptionalMemberAccess
    stream.respond("200")  # wrong: arg-type, reportArgumentType
    app.get("/number", 5)  # wrong: call-overload, reportCallIssue, reportArgumentType
    http.listen("127.0.0.1:8080", 5)  # wrong: arg-type, reportArgumentType
