"""Several listeners at one port."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from silly import check, errno
from silly.net import http, tcp, tls

from ..helpers import WITHIN, turn
from .http_support import certs, hello
from .tls_support import echo

KINDS = ["tcp", "tls", "http"]
shared = pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="THIS SYSTEM HAS NO SO_REUSEPORT")


def listen(kind: str, addr: str, **options: Any) -> Any:
    if kind == "tcp":
        return tcp.listen(addr, echo, **options)
    if kind == "tls":
        return tls.listen(addr, certs(), echo, **options)
    return http.listen(addr, hello, **options)


@shared
@pytest.mark.parametrize("host", ["127.0.0.1", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_two_listeners_share_a_port(kind: str, host: str, logs: Any) -> None:
    logs.expect(f"ERROR {kind}.listen .*: Address already in use")
    with check(listen(kind, f"{host}:0", reuseport=True)) as first:
        with check(listen(kind, f"{host}:{first.port}", reuseport=True)) as second:
            assert second.port == first.port
        assert listen(kind, f"{host}:{first.port}") == (None, errno.ADDRINUSE), "one that doesn't say so"
    turn(3)


@shared
def test_each_gets_connections() -> None:
    counts = [0, 0]

    def counting(number: int) -> Any:
        def accept(conn: Any) -> None:
            counts[number] += 1
            conn.write("x")
            conn.close()

        return accept

    with (
        check(tcp.listen("127.0.0.1:0", counting(0), reuseport=True)) as first,
        check(tcp.listen(first.addr, counting(1), reuseport=True)),
    ):
        for _ in range(64):
            with check(tcp.connect(first.addr)) as conn:
                assert conn.read(1, WITHIN) == (b"x", None)
    assert all(counts), counts
    assert sum(counts) == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("addr", ["unix:/run/web.sock", "fd:3", "systemd:web"])
def test_an_address_without_a_port(kind: str, addr: str) -> None:
    words = f"{kind}.listen: reuseport is for an address with a port of our own, not for '{addr}'"
    with pytest.raises(ValueError, match=re.escape(words)):
        listen(kind, addr, reuseport=True)


def test_arguments(monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    with pytest.raises(TypeError, match="reuseport is True or False, not int"):
        tcp.listen("127.0.0.1:0", echo, reuseport=1)  # type: ignore[arg-type]
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    logs.expect("ERROR tcp.listen 127.0.0.1:0: reuseport: this system has no SO_REUSEPORT")
    assert tcp.listen("127.0.0.1:0", echo, reuseport=True) == (None, "reuseport: this system has no SO_REUSEPORT")
