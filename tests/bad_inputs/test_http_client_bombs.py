"""Content codings that broke clients: a limit on the bytes of the wire is none on what they become.

tornado CVE-2026-49855, aiohttp PR #11898, undici CVE-2026-1526. What a coding says must be true to its last byte.
"""

from __future__ import annotations

import os
import zlib
from functools import cache
from typing import Any

import pytest

from ..helpers import Peer, turn
from .support import GOOD, KIB, MIB, POISON, TCP, Memory, Told, Way, both_transports, every_way, first_then_good, origin
from .test_http_client import chunked, head

SIZE = 32 * MIB
LIMIT = {"body": MIB}
BITS = {"gzip": 31, "x-gzip": 31, "GZip": 31, "deflate": 15, "deflate-bare": -15}


def coded(coding: str, *pieces: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, BITS[coding])
    return b"".join([compressor.compress(piece) for piece in pieces]) + compressor.flush()


@cache
def bomb(coding: str, size: int = SIZE) -> bytes:
    """``size`` zeros, a thousandth as long."""
    return coded(coding, *[bytes(MIB)] * (size // MIB), bytes(size % MIB))


def response(coding: str, data: bytes, framing: str = "length", first: str = "HTTP/1.1 200 OK", *fields: str) -> bytes:
    """A response with ``data`` in the coding, framed by ``"length"``, ``"chunked"``, or up to the ``"end"``."""
    field = f"Content-Encoding: {coding.removesuffix('-bare')}"
    if framing == "chunked":
        pieces = [data[at : at + 5000] for at in range(0, len(data), 5000)]
        body = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n"
        return head(field, "Transfer-Encoding: chunked", *fields, first=first, body=body)
    if framing == "length":
        return head(field, f"Content-Length: {len(data)}", *fields, first=first, body=data)
    return head(field, *fields, first=first, body=data)


def ending(way: Way, data: bytes) -> Any:
    """Answers with ``data``, and ends the connection."""

    def answer(told: Told, peer: Peer) -> bool:
        way.deliver_all(peer, data)
        peer.conn.close()
        return True

    return answer


def refused(way: Way, data: bytes, limits: dict[str, int] | None = None, **options: Any) -> str:
    """``data`` and the end: the error that ``fetch`` gives, and in how little memory."""
    with origin(way, ending(way, data)) as server, way.client(limits, **options) as client, Memory() as memory:
        got, err = client.get(way.web(server))
        assert got is None, len(got.body)
    assert memory.peak < 4 * MIB + 2 * len(data)
    assert err.isprintable()
    return str(err)


# ---- too long -------------------------------------------------------------------------------------------------------


@both_transports
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
@pytest.mark.parametrize("coding", BITS)
def test_cve_2026_49855_bomb(coding: str, framing: str, way: Way) -> None:
    assert "'body'" in refused(way, response(coding, bomb(coding), framing), LIMIT)


@every_way
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate-bare"])
def test_cve_2026_49855_at_the_limit_and_one_past_it(coding: str, over: int, way: Way) -> None:
    size = 300 * KIB
    data = response(coding, bomb(coding, size + over), "chunked")
    if over:
        assert "'body'" in refused(way, data, {"body": size})
        return
    with origin(way, ending(way, data)) as server, way.client({"body": size}) as client:
        got, err = client.get(way.web(server))
        assert err is None
        assert got.body == bytes(size)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_pr_11898_bomb_in_the_last_bytes(coding: str) -> None:
    """Behind an honest beginning, in a chunk of its own that comes late."""
    honest = os.urandom(500 * KIB)
    compressor = zlib.compressobj(9, zlib.DEFLATED, BITS[coding])
    first = compressor.compress(honest) + compressor.flush(zlib.Z_SYNC_FLUSH)
    last = b"".join([compressor.compress(bytes(MIB)) for _ in range(16)]) + compressor.flush()

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(chunked(b"%x\r\n%b\r\n" % (len(first), first), f"Content-Encoding: {coding}"))
        turn(20)
        peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        return True

    with origin(TCP, answer) as server, TCP.client(LIMIT) as client, Memory() as memory:
        got, err = client.get(TCP.web(server))
        assert got is None
        assert "'body'" in err
    assert memory.peak < 5 * MIB


def test_pr_11898_bomb_in_members() -> None:
    """Each of them small: what counts is their sum."""
    assert "'body'" in refused(TCP, response("gzip", bomb("gzip", 64 * KIB) * 100), LIMIT)


EMPTY = {
    "members": ("gzip", coded("gzip", b"")),
    "blocks": ("deflate-bare", b"\x00\x00\x00\xff\xff"),
    "fixed-blocks": ("deflate-bare", b"\x02\x08\x20\x80\x00"),
}


@both_transports
@pytest.mark.parametrize("row", EMPTY)
def test_pr_11898_coding_that_yields_nothing(row: str, way: Way) -> None:
    """Endless, and never over the limit of the content: it is over one of its own."""
    coding, nothing = EMPTY[row]
    piece = nothing * 1000

    def answer(told: Told, peer: Peer) -> bool:
        peer.conn.write(head(f"Content-Encoding: {coding.removesuffix('-bare')}", "Connection: close"))
        while peer.conn.write(piece):
            peer.conn._stream.flush()
            turn()
        return True

    with origin(way, answer) as server, way.client(LIMIT) as client, Memory() as memory:
        got, err = client.get(way.web(server))
        assert got is None
        assert "longer than what it makes" in err
    assert memory.peak < 2 * MIB


@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content", "404 Not Found", "500 Oops"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bomb_with_other_statuses(method: str, status: str) -> None:
    data = response("gzip", bomb("gzip"), "length", f"HTTP/1.1 {status}")
    with origin(TCP, ending(TCP, data)) as server, TCP.client(LIMIT) as client, Memory() as memory:
        got, err = client.fetch(method, TCP.web(server))
        assert got is None
        assert "'body'" in err
    assert memory.peak < 4 * MIB


def test_bomb_on_the_way_of_a_redirect() -> None:
    """The body of a redirect is read too, so that its connection can serve on."""
    data = response("gzip", bomb("gzip"), "length", "HTTP/1.1 302 Found", "Location: /second")
    assert "'body'" in refused(TCP, data, LIMIT, redirects=5)


# ---- piece by piece -------------------------------------------------------------------------------------------------


@both_transports
@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate-bare"])
def test_bomb_in_pieces(coding: str, way: Way) -> None:
    """A reader that takes piece by piece has no limit, and holds one piece."""
    size = 4 * MIB
    data = response(coding, bomb(coding, size), "chunked")
    with origin(way, ending(way, data)) as server, way.client(LIMIT) as client, Memory() as memory:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            pieces = stream.pieces()
            longest = total = 0
            for piece in pieces:
                longest, total = max(longest, len(piece)), total + len(piece)
        assert pieces.err is None
    assert total == size
    assert longest <= 64 * KIB
    assert memory.peak < MIB


@both_transports
def test_bomb_read_by_length(way: Way) -> None:
    """As much is decoded as is asked for."""
    data = response("gzip", bomb("gzip"))
    with origin(way, ending(way, data)) as server, way.client(LIMIT) as client, Memory() as memory:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            for _ in range(100):
                assert stream.read(1000) == (bytes(1000), None)
            body, err = stream.readall()
            assert body is None
            assert "'body'" in err
            assert stream.read(1) == (None, err)
    assert memory.peak < 4 * MIB


def test_bomb_that_nobody_reads() -> None:
    """Nothing is decoded."""
    with origin(TCP, ending(TCP, response("gzip", bomb("gzip")))) as server, TCP.client() as client, Memory() as memory:
        stream, _ = client.request("GET", TCP.web(server))
        with stream:
            stream.closewrite()
            assert stream.waitresponse()
    assert memory.peak < MIB


# ---- what is left alone ---------------------------------------------------------------------------------------------

ALONE = [
    "gzip, gzip",
    "gzip,gzip",
    "deflate, gzip",
    "identity, gzip",
    "gzip, identity",
    "br",
    "zstd",
    "compress",
    "identity",
    "",
]
ALONE += ["gzip;q=1", '"gzip"', "gzip gzip", "gzip,", ",gzip", "xgzip", "gzip\xa0", "x" * 1000]


@both_transports
@pytest.mark.parametrize("coding", ALONE)
def test_codings_that_are_left_alone(coding: str, way: Way) -> None:
    """Several at once, and those that we don't know: the bytes are given as they came, and the field says what they are."""
    data = bomb("gzip", 64 * KIB)
    message = head(f"Content-Encoding: {coding}", f"Content-Length: {len(data)}", body=data)
    with origin(way, first_then_good(way, message)) as server, way.client({"body": KIB}) as client:
        got, err = client.get(way.web(server))
        assert err is None
        assert got.body == data
        assert got.header["content-encoding"] == coding


def test_nested_gzip() -> None:
    """In two fields it is left alone; in one field, one layer is taken off."""
    inner = bomb("gzip")
    outer = coded("gzip", inner)
    two = head("Content-Encoding: gzip", "Content-Encoding: gzip", f"Content-Length: {len(outer)}", body=outer)
    answers = [two, response("gzip", outer)]

    def answer(told: Told, peer: Peer) -> None:
        peer.send(answers.pop(0))

    with origin(TCP, answer) as server, TCP.client(LIMIT) as client, Memory() as memory:
        assert client.get(TCP.web(server))[0].body == outer
        assert client.get(TCP.web(server))[0].body == inner
    assert memory.peak < 4 * MIB


@pytest.mark.parametrize("how", ["decode", "accept-encoding", "range"])
def test_what_was_not_asked_for_is_not_decoded(how: str) -> None:
    data = bomb("gzip", 64 * KIB)
    with origin(TCP, ending(TCP, response("gzip", data))) as server, TCP.client(decode=how != "decode") as client:
        header = {"accept-encoding": "gzip"} if how == "accept-encoding" else {"range": "bytes=0-9"} if how == "range" else None
        got, err = client.get(TCP.web(server), header)
        assert err is None
        assert got.body == data


@pytest.mark.parametrize("first", ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 200 OK"])
def test_coding_without_a_body(first: str) -> None:
    message = response("gzip", b"", "length", first)
    with origin(TCP, lambda told, peer: peer.send(message)) as server, TCP.client() as client:
        for method in ("GET", "HEAD"):
            got, err = client.fetch(method, TCP.web(server))
            assert err is None
            assert got.body == b""
        assert len(server.connections) == 1


# ---- invalid codings -----------------------------------------------------------------------------------------------

PLAIN = b"hello, " * 100
FINE = {coding: coded(coding, PLAIN) for coding in ("gzip", "deflate", "deflate-bare")}
FAULTS: dict[str, tuple[str, bytes]] = {
    "plain-text": ("gzip", PLAIN),
    "plain-text-deflate": ("deflate", PLAIN),
    "gzip-as-deflate": ("deflate", FINE["gzip"]),
    "deflate-as-gzip": ("gzip", FINE["deflate"]),
    "checksum": ("gzip", FINE["gzip"][:-8] + bytes(4) + FINE["gzip"][-4:]),
    "size": ("gzip", FINE["gzip"][:-4] + bytes(4)),
    "adler": ("deflate", FINE["deflate"][:-4] + bytes(4)),
    "cut-in-the-header": ("gzip", FINE["gzip"][:5]),
    "cut-after-one-byte": ("deflate", FINE["deflate"][:1]),
    "cut": ("gzip", FINE["gzip"][:-12]),
    "cut-deflate": ("deflate", FINE["deflate"][:-8]),
    "cut-bare": ("deflate-bare", FINE["deflate-bare"][:-2]),
    "cut-in-the-checksum": ("gzip", FINE["gzip"][:-1]),
    "cut-in-the-second-member": ("gzip", FINE["gzip"] + FINE["gzip"][:-5]),
    "garbage-behind": ("gzip", FINE["gzip"] + b"evil"),
    "zeros-behind": ("gzip", FINE["gzip"] + bytes(20)),
    "garbage-behind-deflate": ("deflate", FINE["deflate"] + b"evil"),
    "second-deflate": ("deflate", FINE["deflate"] * 2),
    "response-behind": ("gzip", FINE["gzip"] + POISON),
    "reserved-flags": ("gzip", FINE["gzip"][:3] + b"\xe0" + FINE["gzip"][4:]),
    "another-method": ("gzip", FINE["gzip"][:2] + b"\x07" + FINE["gzip"][3:]),
    "preset-dictionary": ("deflate", zlib.compressobj(9, zlib.DEFLATED, 15, 8, 0, b"hello").compress(PLAIN) + FINE["deflate"]),
    "block-type-3": ("deflate-bare", b"\x07" + bytes(20)),
}


@every_way
@pytest.mark.parametrize("row", FAULTS)
@pytest.mark.parametrize("framing", ["length", "chunked", "end"])
def test_bad_coding(framing: str, row: str, way: Way) -> None:
    """An error, never a part of the content."""
    coding, data = FAULTS[row]
    assert ": reading the response: " in refused(way, response(coding, data, framing))


@pytest.mark.parametrize("row", FAULTS)
@pytest.mark.parametrize("how", ["read", "pieces"])
def test_bad_coding_in_pieces(how: str, row: str) -> None:
    """The error comes at the end at the latest, and the connection is not used again."""
    coding, data = FAULTS[row]
    with origin(TCP, first_then_good(TCP, response(coding, data, "chunked"))) as server, TCP.client() as client:
        stream, _ = client.request("GET", TCP.web(server))
        with stream:
            stream.closewrite()
            if how == "pieces":
                pieces = stream.pieces()
                assert PLAIN.startswith(b"".join(pieces)[: len(PLAIN)])
                err = pieces.err
            else:
                data, err = stream.read(len(PLAIN) * 3)
                assert data is None
            assert ": reading the response: " in err
        got, err = client.get(TCP.web(server))
        assert err is None
        assert got.body == b"good"


@every_way
@pytest.mark.parametrize("coding", FINE)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_good_coding(framing: str, coding: str, way: Way) -> None:
    """And the connection serves on."""
    message = response(coding, FINE[coding], framing)
    answers = [message, message, GOOD]

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, answers.pop(0))

    with origin(way, answer) as server, way.client() as client:
        got = [client.get(way.web(server))[0].body for _ in range(3)]
        assert got == [PLAIN, PLAIN, b"good"]
        assert len(server.connections) == 1
