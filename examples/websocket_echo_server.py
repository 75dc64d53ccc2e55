"""A WebSocket echo server: the first example of upstream's silly.net.websocket page, line for line.

Run:  python -m silly examples/websocket_echo_server.py [--addr=:8080]
Then: python -m silly examples/websocket_echo_client.py
"""

from silly import env, task
from silly.net import http, websocket


def main():
    def handler(stream):
        # Check if this is a WebSocket upgrade request
        if stream.header["upgrade"] == "websocket":
            sock, err = websocket.upgrade(stream)
            if not sock:
                print("Upgrade failed:", err)
                return
            # WebSocket communication loop
            while True:
                data, typ = sock.read()
                if data is None:
                    break
                if typ == "text":
                    sock.write("Echo: " + data, "text")
                elif typ == "close":
                    break
            sock.close()
        else:
            # Handle regular HTTP requests
            stream.respond(200, {"content-type": "text/plain"})
            stream.close("Not a WebSocket request")

    server, _err = http.listen(
        addr=env.get("addr") or ":8080",
        handler=handler,
    )
    if server:
        print(f"WebSocket server listening on {server.addr}", flush=True)


task.fork(main)
