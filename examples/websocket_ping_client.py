"""A client that answers pings by hand: upstream's example of sock:read, line for line.

Run:  python -m silly examples/websocket_ping_client.py [--url=ws://127.0.0.1:8080]
The library has answered each ping already. It doesn't send the pong that is written by hand, so no
ping is answered twice.
"""

from silly import env, task
from silly.net import websocket


def main():
    sock, _err = websocket.connect(env.get("url") or "ws://127.0.0.1:8080")
    if not sock:
        return
    while True:
        data, typ = sock.read()
        if data is None:
            break
        if typ == "text":
            print("Text:", data, flush=True)
        elif typ == "ping":
            sock.write(data, "pong")
        elif typ == "close":
            break
    sock.close()


task.fork(main)
