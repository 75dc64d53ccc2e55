"""Secure WebSocket: "Example 2" of upstream's silly.net.websocket page, line for line.

Run:  python -m silly examples/websocket_wss_server.py --cert=cert.pem --key=key.pem [--addr=:8443]
A certificate to try it with:
  openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 7 -subj /CN=localhost \\
      -addext subjectAltName=DNS:localhost,IP:127.0.0.1
"""

from pathlib import Path

from silly import env, task
from silly.net import http, websocket


def main():
    # Certificate configuration: PEM text, as the page has it
    certs = [{
        "cert": Path(env.get("cert") or "cert.pem").read_text(),
        "key": Path(env.get("key") or "key.pem").read_text(),
    }]  # fmt: skip

    def handler(stream):
        if stream.header["upgrade"] == "websocket":
            sock, _err = websocket.upgrade(stream)
            if sock:
                sock.write("Secure connection established", "text")
                # ... communication loop
                sock.close()

    server, _err = http.listen(
        addr=env.get("addr") or ":8443",
        certs=certs,
        handler=handler,
    )
    if server:
        print(f"WSS server listening on {server.addr}", flush=True)


task.fork(main)
