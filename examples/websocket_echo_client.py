"""A WebSocket client: upstream's example of websocket.connect, line for line.

Run:  python -m silly examples/websocket_echo_client.py [--url=ws://127.0.0.1:8080]
It talks to examples/websocket_echo_server.py.
"""

from silly import env, task
from silly.net import websocket


def main():
    sock, err = websocket.connect(env.get("url") or "ws://127.0.0.1:8080")
    if not sock:
        print("Connect failed:", err)
        return
    print("Connected to WebSocket server")
    # Send message
    sock.write("Hello, Server!", "text")
    # Read response
    data, _typ = sock.read()
    if data is not None:
        print("Received:", data)
    sock.close()


task.fork(main)
