"""The code of docs/tcp.md runs, and does what the page says."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from silly import check, errno
from silly.net import tcp
from silly.sync import channel

from .test_docs import defined

WITHIN = 10_000


@pytest.fixture
def page() -> dict[str, Any]:
    """The names that the code of the page defines."""
    return defined("tcp.md", 5)


def test_a_server_and_a_client(page: dict[str, Any]) -> None:
    with check(tcp.listen("127.0.0.1:0", page["shout"])) as listener:
        assert page["ask"](listener.addr, "hello") == (b"HELLO\n", None)
    assert page["ask"](listener.addr, "hello") == (None, errno.CONNREFUSED)


def test_a_relay_hands_on_each_end(page: dict[str, Any]) -> None:
    accepted = channel.new()
    with (
        check(tcp.listen("127.0.0.1:0", accepted.push)) as server,
        check(tcp.listen("127.0.0.1:0", lambda conn: page["relay"](conn, server.addr))) as relaying,
        check(tcp.connect(relaying.addr)) as conn,
        accepted.pop()[0] as peer,
    ):
        conn.write("a question, however long")
        conn.closewrite()
        assert peer.read(24, WITHIN) == (b"a question, however long", None)
        assert peer.read(1, WITHIN) == (None, errno.EOF)
        peer.write("an answer")
        peer.close()
        assert conn.read(9, WITHIN) == (b"an answer", None)
        assert conn.read(1, WITHIN) == (None, errno.EOF)


def test_a_socket_of_a_library(page: dict[str, Any]) -> None:
    with check(tcp.listen("127.0.0.1:0", page["shout"])) as listener:
        with check(page["through"](socket.create_connection, ("127.0.0.1", listener.port))) as conn:
            conn.write("hello\n")
            assert conn.read("\n", WITHIN) == (b"HELLO\n", None)
        with pytest.raises(OSError, match="refused"):
            page["through"](socket.create_connection, ("127.0.0.1", 1))


def test_sockets_from_systemd(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert page["from_systemd"]() == []
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert page["from_systemd"]() == ["fd:3", "fd:4"]
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    page["from_systemd"] = lambda: [f"fd:{sock.detach()}"]
    ((listener, err),) = page["listen_all"](page["shout"])
    assert err is None
    with listener:
        assert page["ask"](f"127.0.0.1:{port}", "hello") == (b"HELLO\n", None)
