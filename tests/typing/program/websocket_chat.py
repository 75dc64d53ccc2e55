"""A WebSocket server, and a client of it."""

import silly
from silly.net import http, websocket

connected: set[websocket.Socket] = set()


def handler(stream: http.ServerStream) -> None:
    if stream.header["upgrade"] != "websocket":
        stream.respond(404, {"content-type": "text/plain"})
        stream.close("There is only a chat here.")
        return
    sock, err = websocket.upgrade(stream, subprotocols=["chat"], compression=True)
    if sock is None:
        print("no upgrade:", err)
        return
    connected.add(sock)
    print(sock.subprotocol, sock.conn.remoteaddr, sock.latency, sock.stream.query["room"])
    try:
        while True:
            data, typ = sock.read(timeout=60_000)
            if data is None or typ == "close":
                break
            if typ == "text":
                for other in connected:
                    other.write("Echo: " + data, "text")
            else:
                sock.write(data, typ)  # as it came
    finally:
        connected.discard(sock)


def long_message(sock: websocket.Socket) -> str | None:
    pieces = sock.pieces(timeout=1000)
    for piece in pieces:
        print(len(piece))
    with sock.message("binary", compress=False) as message:
        message.write(b"piece")
    return pieces.err or message.err


def client() -> None:
    sock, err = websocket.connect("ws://127.0.0.1:8080/chat", limits=silly.Limits(message=2**20))
    if isinstance(err, websocket.HandshakeError):
        print(err.status, err.header["location"])
    if sock is None:
        return
    with sock:
        sock.write("hello", "text")
        sock.write(b"hello")
        sock.write(None, "ping")
        data, _ = sock.read()
        print(data)


server, err = http.listen(addr="127.0.0.1:8080", handler=handler, limits=silly.Limits(connections=1000))
if server is not None:
    silly.run(client)


def wrong(sock: websocket.Socket) -> None:
    sock.write(5)  # wrong: arg-type, reportArgumentType
    sock.write("x", 5)  # wrong: arg-type, reportArgumentType
    sock.write("x", "txet")  # wrong: arg-type, reportArgumentType
    sock.message("ping")  # wrong: arg-type, reportArgumentType
    sock.close("1000")  # wrong: arg-type, reportArgumentType
    websocket.upgrade("stream")  # wrong: arg-type, reportArgumentType
    websocket.connect("ws://127.0.0.1/", limit=5)  # wrong: call-arg, reportCallIssue
