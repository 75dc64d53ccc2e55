"""What the tests of the network share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from silly.net.websocket import _unread
from silly.sync import channel

from .check_stream import Pair, Transport, UnixTransport
from .http_client_support import drained
from .tls_recorder import RecordedStream, record


@pytest.fixture(autouse=True)
def looked_through_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that no task reads is taken at once, so that tests of it don't wait."""
    monkeypatch.setattr(_unread, "LOOK", 0.01)


@pytest.fixture(autouse=True)
def tls_recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No byte leaves a TLS connection but in a record: see ``tls_recorder``."""
    record(monkeypatch)
    yield
    wrong = RecordedStream.wrong[:]
    RecordedStream.wrong.clear()
    assert wrong == []


@pytest.fixture
def nothing_lingers() -> Iterator[None]:
    """Waits at the end for what the test closed while its peer still sent."""
    yield
    drained()


@pytest.fixture(params=["tcp", "unix", "tls"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    """A kind of stream: each test runs with all."""
    from .test_stream_tls import TlsTransport

    if request.param == "unix":
        unix = UnixTransport()
        unix.addr = f"unix:{tmp_path}/s"
        return unix
    return (TlsTransport if request.param == "tls" else Transport)("127.0.0.1:0")


@pytest.fixture
def any_pair(transport: Transport) -> Iterator[Pair]:
    """Makes two connected connections of that kind: the one that connected, and its peer."""
    accepted = channel.new()
    with ExitStack() as stack:
        listener = stack.enter_context(transport.listen(accepted.push))

        def make() -> tuple[Any, Any]:
            conn = stack.enter_context(transport.connect(listener.addr))
            peer, _ = accepted.pop()
            return conn, stack.enter_context(peer)

        yield make


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``getaddrinfo`` finds: a list of (family, sockaddr), an exception, or a function to call in its thread."""
    table: dict[str, Any] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in table:
            return real(host, port, *args, **kwargs)
        found = table[host]
        if callable(found):
            found = found()
        if isinstance(found, Exception):
            raise found
        return [(family, socket.SOCK_STREAM, 6, "", sockaddr) for family, sockaddr in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table
