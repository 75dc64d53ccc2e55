"""OpenSSL's buffers are replaced where they may have grown, and no byte is lost by that."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from OpenSSL import SSL

from silly.net import _tls_pipe
from silly.net._tls_stream import TlsStream

from .test_tls_pipe import FFI, LIB, PARTIAL, Pair, Setup, c_setup, functions, setup  # noqa: F401
from .ws_support import one, secure_client_side, secure_server_side


def exchanged(pair: Pair, size: int) -> None:
    data = b"x" * size
    assert pair.come(pair.record(data[:16_384])) > 0
    assert pair.taken() == data[:16_384]
    pair.theirs.bio_write(pair.pipe.seal([data]))
    got = b""
    while len(got) < size:
        got += pair.theirs.recv(16_384)
    assert got == data


def test_bytes_go_on_both_ways(setup: Setup) -> None:  # noqa: F811
    pair = setup.pair()
    for size in (1, 65_536, 100, 16_384):
        exchanged(pair, size)
        assert pair.pipe.renew() is setup.in_c
    assert pair.pipe.received > 0
    if setup.in_c:
        assert pair.ours._into_ssl is None, "its pointer would be one to nothing"
        with pytest.raises(TypeError):
            pair.ours.bio_read(1)
    exchanged(pair, 10)


def test_not_while_a_record_is_on_its_way(c_setup: Setup) -> None:  # noqa: F811
    pair = c_setup.pair()
    record = pair.record(b"hello")
    for cut in range(1, len(record)):
        assert pair.come(record[:cut]) == PARTIAL
        assert not pair.pipe.renew()
        assert pair.come(record[cut:]) == 5
        assert pair.taken() == b"hello"
        record = pair.record(b"hello")


def test_not_while_records_wait(c_setup: Setup) -> None:  # noqa: F811
    pair = c_setup.pair()
    pair.pipe.put(pair.record(b"one") + pair.record(b"two"))
    assert not pair.pipe.renew()
    pair.read()
    assert pair.taken() == b"onetwo"
    assert pair.pipe.renew()


def test_not_while_something_is_to_be_sent(c_setup: Setup) -> None:  # noqa: F811
    pair = c_setup.pair()
    pair.ours.shutdown()
    assert not pair.pipe.renew()
    pair.theirs.bio_write(pair.pipe.pending())
    with pytest.raises(SSL.ZeroReturnError):
        pair.theirs.recv(1)
    assert pair.pipe.renew()


def test_without_memory(c_setup: Setup) -> None:  # noqa: F811
    pair = c_setup.pair()
    exchanged(pair, 100)
    for missing in (0, 1):
        made: list[int] = []

        def new(kind: Any, made: list[int] = made, missing: int = missing) -> Any:
            made.append(1)
            return FFI.NULL if len(made) - 1 == missing else LIB.BIO_new(kind)

        with functions(BIO_new=new):
            assert not pair.pipe.renew()
        assert len(made) == 2
    exchanged(pair, 100)


def test_new_buffers_are_freed_with_the_connection(c_setup: Setup) -> None:  # noqa: F811
    """Under the sanitizers: neither twice nor never."""
    for _ in range(20):
        pair = c_setup.pair()
        exchanged(pair, 65_536)
        pair.pipe.renew()
        exchanged(pair, 100)
        del pair
        gc.collect()


SIDES = {"server": secure_server_side, "client": secure_client_side}


@pytest.mark.parametrize("side", SIDES)
def test_a_quiet_connection_gets_new_ones(side: str) -> None:
    """At the second look of which the first found much. Without C it keeps the old ones."""
    with SIDES[side]() as (sock, peer):
        stream = sock.conn._stream
        big = b"x" * 50_000
        for _ in range(2):
            peer.put(0x82, big)
            assert one(sock) == (big, "binary")
            sock.write(big)
            assert peer.get() == (0x82, big)
            stream.rest()
            assert stream._grown
        stream.rest()
        assert stream._grown == (_tls_pipe.in_words() != "in C")
        sock.write("and on", "text")
        assert peer.get() == (0x81, b"and on")
        peer.put(0x81, "and back")
        assert one(sock) == ("and back", "text")


def test_keepalive_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    rest = TlsStream.rest
    monkeypatch.setattr(TlsStream, "rest", lambda stream: (looks.append(stream), rest(stream)))
    with secure_server_side({"ping_interval": 20}) as (sock, peer):
        opcode, _ = peer.get()
        assert opcode == 0x89
        assert sock.conn._stream in looks


def test_the_first_bytes_are_dropped_after_the_handshake() -> None:
    with secure_server_side() as (sock, _):
        assert sock.conn._stream._beginning == b""
        assert not sock.conn._stream.probed
