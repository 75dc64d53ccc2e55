"""A UDP server that echoes datagrams.

Run:  python -m silly examples/udp_echo.py [--addr=127.0.0.1:8080]
Then: nc -u 127.0.0.1 8080
"""

import silly
from silly import env, task
from silly.net import udp

server = silly.check(udp.bind(env.get("addr") or "127.0.0.1:8080"))
print("Bound to", server.addr, flush=True)


def echo():
    while True:
        data, addr = server.recvfrom()
        if data is None:
            break
        print(len(data), "bytes from", addr, flush=True)
        server.sendto(data, addr)


task.fork(echo)
