"""A line echo server over TLS, to be measured: python -m silly benchmarks/tls_echo.py --port=8443 --cert=FILE --key=FILE"""

from silly import env
from silly.net import tls


def echo(conn):
    while True:
        line, _err = conn.read("\n")
        if line is None:
            break
        conn.write(line)


certs = [{"cert": env.get("cert"), "key": env.get("key")}]
tls.listen(addr=f"127.0.0.1:{env.get('port') or 8443}", certs=certs, accept=echo)
