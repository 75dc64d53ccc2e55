"""A room of WebSockets, with one task for each: it reads what its client sends, and sends what others put into its outbox.

Run:  python -m silly examples/websocket_outbox_server.py [--addr=127.0.0.1:8080]
Each message goes to all the others. A client that stops reading holds up nobody: its outbox fills, and it is closed.
"""

from silly import env, task
from silly.net import http, websocket
from silly.sync import channel

MOST = 1000
"""Messages that may wait for one client."""
outboxes = []


def send_to_all(text, mine):
    for outbox in list(outboxes):
        if outbox is not mine and outbox.push(text) and len(outbox) > MOST:
            outbox.clear()
            outbox.close("too slow")


def handler(stream):
    sock, _err = websocket.upgrade(stream)
    if sock is None:
        return
    outbox = channel.new()
    outboxes.append(outbox)
    try:
        serve(sock, outbox)
    finally:
        outboxes.remove(outbox)
        sock.close()


def serve(sock, outbox):
    while True:
        which, _err = task.select(outbox, sock)
        if which is outbox:
            text, _err = outbox.pop()
            if text is None or not sock.write(text, "text"):
                return
        elif which is sock:
            data, typ = sock.read()
            if data is None or typ == "close":
                return
            if typ == "text":
                send_to_all(data, outbox)
        else:
            return  # the process ends


def main():
    server, _err = http.listen(addr=env.get("addr") or "127.0.0.1:8080", handler=handler)
    if server:
        print(f"Outbox server listening on {server.addr}", flush=True)


task.fork(main)
