"""A TCP server that echoes lines.

Run:  python -m silly examples/tcp_echo.py [--addr=127.0.0.1:8080]
Then: nc 127.0.0.1 8080
"""

from silly import env
from silly.net import tcp


def echo(conn):
    print("Connected:", conn.remoteaddr, flush=True)
    while True:
        line, err = conn.read("\n")
        if line is None:
            print("Ended:", conn.remoteaddr, err, flush=True)
            break
        conn.write(line)
    conn.close()


tcp.listen(addr=env.get("addr") or "127.0.0.1:8080", accept=echo)
