"""As ``blow_scenarios``: the sockets of ``silly.bridge``."""

from __future__ import annotations

import socket as std
import ssl
import tempfile
from pathlib import Path
from typing import Any

from silly.bridge import socket
from silly.bridge.socket import Socket

from .blow_scenarios import BLOB, check, scenario
from .blows import Blows, Job, again, done
from .net import authorities


def _whole(receive: Any, size: int) -> bytes:
    """So much of what comes, though blows strike; less at the peer's end."""
    got = b""
    while len(got) < size and (piece := again(receive, 10_000)):
        got += piece
    return got


@scenario
def sockets(blows: Blows) -> None:
    """What a struck ``sendall`` had sent is the beginning of its data."""
    one, two = socket.socketpair()

    def write() -> bool:
        one.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 32 * 1024)
        sent = done(one.sendall, BLOB)
        one.shutdown(std.SHUT_WR)
        return sent

    with one, two:
        writer = Job(write)
        got = Job(lambda: _whole(two.recv, len(BLOB) + 1)).result()
        check(got == BLOB if writer.result() else BLOB.startswith(got), len(got))


@scenario
def socket_connect(blows: Blows) -> None:
    """A struck connect goes on, and so does ``accept``. A name is looked up in a thread."""
    with Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            with again(listener.accept)[0] as peer:
                again(peer.send, b"x")

        def ask() -> bytes:
            with Socket() as sock:
                again(sock.connect, ("localhost", listener.getsockname()[1]))
                got: bytes = again(sock.recv, 10)
                return got

        jobs = [Job(serve), Job(ask)]
        check(jobs[1].result() == b"x")
        jobs[0].result()
        created = Job(lambda: again(socket.create_connection, ("localhost", listener.getsockname()[1])))
        created.result().close()


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    client = socket.create_default_context(cadata=authorities.root().pem)
    server = socket.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in authorities.server().entry.items():
            (Path(folder) / name).write_text(text)
        server.load_cert_chain(f"{folder}/cert", f"{folder}/key")
    return client, server


@scenario
def socket_tls(blows: Blows) -> None:
    """The handshake goes on; after a struck ``sendall`` whole records are there, and what is sent next."""
    contexts = _contexts()
    one, two = socket.socketpair()
    one.setsockopt(std.SOL_SOCKET, std.SO_SNDBUF, 32 * 1024)
    client = contexts[0].wrap_socket(one, server_hostname="localhost", do_handshake_on_connect=False)
    server = contexts[1].wrap_socket(two, server_side=True, do_handshake_on_connect=False)

    def write() -> bool:
        again(client.do_handshake)
        sent = [done(client.sendall, BLOB), done(client.sendall, b"end")]
        again(client.unwrap)
        return all(sent)

    def read() -> bytes:
        again(server.do_handshake)
        got = _whole(server.recv, len(BLOB) + 100)
        again(server.unwrap)
        return got

    with client, server:
        writer, reader = Job(write), Job(read)
        got = reader.result()
        whole = writer.result()
        check(got == BLOB + b"end" if whole else BLOB.startswith(got.removesuffix(b"end")), len(got))
