"""A TCP server that echoes lines, with gevent: gevent_tcp.py PORT"""

import sys

from gevent.server import StreamServer
from gevent.socket import socket


def echo(sock: socket, address: tuple[str, int]) -> None:
    for line in sock.makefile("rb"):
        sock.sendall(line)


StreamServer(("127.0.0.1", int(sys.argv[1])), echo).serve_forever()
