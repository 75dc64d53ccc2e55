"""A broadcast server: "Example 1" of upstream's silly.net.websocket page, line for line.

Run:  python -m silly examples/websocket_broadcast_server.py [--addr=:8080]
One task sends to all clients in turn, so a client that stops reading holds up the others.
examples/chat.py shows how to avoid that.
"""

from silly import env, task
from silly.net import http, websocket
from silly.sync import channel


def main():
    clients = []
    broadcast_chan = channel.new()

    # Broadcast coroutine
    def broadcast():
        while True:
            message, _err = broadcast_chan.recv()
            for sock in list(clients):
                sock.write(message, "text")

    task.fork(broadcast)

    def handler(stream):
        if stream.header["upgrade"] == "websocket":
            sock, _err = websocket.upgrade(stream)
            if sock:
                clients.append(sock)
                while True:
                    data, typ = sock.read()
                    if data is None or typ == "close":
                        break
                    if typ == "text":
                        broadcast_chan.send(data)
                # Remove client
                for i, v in enumerate(clients):
                    if v is sock:
                        del clients[i]
                        break
                sock.close()
        else:
            stream.respond(404, {})
            stream.close()

    server, _err = http.listen(addr=env.get("addr") or ":8080", handler=handler)
    if server:
        print(f"Broadcast server listening on {server.addr}", flush=True)


task.fork(main)
