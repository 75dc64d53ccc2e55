"""A WebSocket client of an echo server, to be measured:

    python -m silly benchmarks/ws_client.py --port=8080 --seconds=2 --connections=64
    python -m silly benchmarks/ws_client.py --port=8080 --seconds=2 --connections=0

Each connection sends a message of 64 bytes, reads the echo, and goes on. With 0 connections it opens one after the other, and
closes each at once. Prints how many echoes, or connections, there were, and the CPU seconds of this process.
"""

import json
import time
from time import process_time

import silly
from silly import env, task
from silly.net import websocket

WARM = 0.2
MESSAGE = "x" * 64
URL = f"ws://127.0.0.1:{env.get('port') or 8080}/"
count = 0
end = 0.0


def connect():
    return silly.check(websocket.connect(URL))


def talk(sock):
    global count
    while time.monotonic() < end:
        sock.write(MESSAGE, "text")
        data, _typ = sock.read()
        if data != MESSAGE:
            raise SystemExit(f"not the echo: {data!r}")
        count += 1


def connect_and_close():
    global count
    while time.monotonic() < end:
        connect().close()
        count += 1


def run(socks, seconds):
    """Until all is answered."""
    global count, end
    count = 0
    end = time.monotonic() + seconds
    if not socks:
        connect_and_close()
        return
    left = len(socks)
    me = task.running()

    def each(sock):
        nonlocal left
        talk(sock)
        left -= 1
        if not left:
            task.wakeup(me)

    for sock in socks:
        task.fork(each, sock)
    task.wait()


def main():
    socks = [connect() for _ in range(int(env.get("connections") or 0))]
    run(socks, WARM)
    begin = process_time()
    run(socks, float(env.get("seconds") or 2))
    print(json.dumps({"count": count, "cpu": process_time() - begin}), flush=True)
    for sock in socks:
        sock.close()


main()
