"""A line echo server, to be measured: python -m silly benchmarks/tcp_echo.py --port=8080"""

from silly import env
from silly.net import tcp


def echo(conn):
    while True:
        line, _err = conn.read("\n")
        if line is None:
            break
        conn.write(line)


tcp.listen(addr=f"127.0.0.1:{env.get('port') or 8080}", accept=echo)
