"""A server with socketify that sends each message to all who are connected: socketify_broadcast.py PORT [CERT KEY]"""

import sys

from socketify import App, AppListenOptions, AppOptions, OpCode, WebSocket


def join(socket: WebSocket) -> None:
    socket.subscribe("all")


def broadcast(socket: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    app.publish("all", message, opcode)


port, *tls = sys.argv[1:]
app = App(AppOptions(cert_file_name=tls[0], key_file_name=tls[1]) if tls else None)
app.ws("/", {"open": join, "message": broadcast})
app.listen(AppListenOptions(port=int(port), host="127.0.0.1"))
app.run()
