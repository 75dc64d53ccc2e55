"""The code of docs/tcp.md runs, and does what the page says."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from silly import check, env, errno
from silly.net import _passed, tcp
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
    """The address is a setting: systemd's units say it."""
    sock = socket.create_server(("127.0.0.1", 0))
    fd = sock.detach()
    monkeypatch.setattr(_passed, "_looked", None)
    monkeypatch.setattr(_passed, "FIRST", fd)
    for name, value in {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(env._values, "listen", "systemd:web")
    with check(page["serve"](page["shout"])) as listener:
        assert page["ask"](listener.addr, "hello") == (b"HELLO\n", None)
