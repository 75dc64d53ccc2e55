"""A WebSocket echo and a hello with socketify, the Python of uWebSockets: socketify_server.py PORT [CERT KEY]"""

import sys

from socketify import App, AppListenOptions, AppOptions, OpCode, Request, Response, WebSocket


def echo(socket: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    socket.send(message, opcode)


def hello(response: Response, request: Request) -> None:
    response.write_header("Content-Type", "text/plain")
    response.end("Hello from Silly!")


port, *tls = sys.argv[1:]
app = App(AppOptions(cert_file_name=tls[0], key_file_name=tls[1]) if tls else None)
# By default messages of more than 16 KiB are refused, and those dropped of which more than 64 KiB can't be sent at once.
app.ws("/", {"message": echo, "max_payload_length": 2**20, "max_backpressure": 2**24})
app.get("/hello", hello)
app.listen(AppListenOptions(port=int(port), host="127.0.0.1"))
app.run()
