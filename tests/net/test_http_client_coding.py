"""Content codings as the HTTP client takes them off: gzip and deflate, bounded, strict, and only when it asked for them."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

import silly
from silly import errno
from silly.sync import channel

from ..helpers import Raw, turn
from .http_client_support import error, origin, taken, using

pytestmark = pytest.mark.usefixtures("nothing_lingers")


TEXT = b"Hello, hello, hello. " * 50


def gzipped(data: bytes = TEXT) -> bytes:
    return gzip.compress(data, mtime=0)


def deflated(data: bytes, bits: int = -15) -> bytes:
    stream = zlib.compressobj(wbits=bits)
    return stream.compress(data) + stream.flush()


def framed(how: str, data: bytes, coding: str, status: str = "200 OK") -> bytes:
    """A response in each framing; one up to the end is followed by that."""
    fields = f"Content-Encoding: {coding}\r\n"
    if how == "length":
        return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(data)}\r\n\r\n".encode() + data
    if how == "close":
        return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + data
    middle = len(data) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (data[:middle], data[middle:]) if piece)
    return f"HTTP/1.1 {status}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


FRAMINGS = ["length", "chunked", "close"]


def fetched(data: bytes, *args: Any, method: str = "GET", dribble: bool = False, **options: Any) -> Any:
    def answer(peer: Raw) -> None:
        for piece in [data[i : i + 1] for i in range(len(data))] if dribble else [data]:
            if not peer.conn.write(piece):
                return
            peer.conn._stream.flush()
            if dribble:
                turn()

    with origin(lambda asked: answer) as server, using(**options) as client:
        return client.fetch(method, server.url, *args)


@pytest.mark.parametrize("how", FRAMINGS)
@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzipped()),
        ("GZIP", gzipped()),
        ("x-gzip", gzipped()),
        ("gzip", gzipped(TEXT[:10]) + gzipped(b"") + gzipped(TEXT[10:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", deflated(TEXT)),
    ],
)
def test_decoded(coding: str, data: bytes, how: str) -> None:
    for dribble in (False, True):
        response = taken(fetched(framed(how, data, coding), dribble=dribble))
        assert response.body == TEXT
        assert response.header["content-encoding"] == coding


@pytest.mark.parametrize("how", FRAMINGS)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_empty_bodies(coding: str, how: str) -> None:
    for data in (b"", gzipped(b"") if coding == "gzip" else zlib.compress(b"")):
        assert taken(fetched(framed(how, data, coding))).body == b""


def test_answers_without_a_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\n"
    assert taken(fetched(head, method="HEAD")).body == b""
    assert taken(fetched(head.replace(b"200 OK", b"304 Not Modified"))).body == b""
    assert taken(fetched(head.replace(b"200 OK", b"204 No Content"))).body == b""


@pytest.mark.parametrize("coding", ["br", "identity", "", "gzip, gzip", "gzip, deflate", "compress", "gzip;x", "x"])
def test_left_alone(coding: str) -> None:
    for how in FRAMINGS:
        assert taken(fetched(framed(how, gzipped(), coding))).body == gzipped()


def test_two_fields_are_two_codings() -> None:
    answer = framed("length", gzipped(), "gzip").replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1)
    assert taken(fetched(answer)).body == gzipped()


@pytest.mark.parametrize("header", [{"Accept-Encoding": "gzip"}, {"accept-encoding": None}, {"Range": "bytes=0-9"}])
def test_not_asked_for(header: Any) -> None:
    assert taken(fetched(framed("length", gzipped(), "gzip"), header)).body == gzipped()


def test_decode_may_be_off() -> None:
    with origin(framed("length", gzipped(), "gzip")) as server, using(decode=False) as client:
        assert taken(client.get(server.url)).body == gzipped()
        assert server.asked[0].one("accept-encoding") is None


@pytest.mark.parametrize("how", FRAMINGS)
@pytest.mark.parametrize(
    ("coding", "data", "cause"),
    [
        ("gzip", gzipped()[:-1], "ends before"),
        ("gzip", gzipped()[:5], "ends before"),
        ("gzip", gzipped() + gzipped()[:-1], "ends before"),
        ("deflate", zlib.compress(TEXT)[:-1], "ends before"),
        ("deflate", zlib.compress(TEXT)[:1], "ends before"),
        ("deflate", deflated(TEXT)[:-1], "ends before"),
        ("gzip", b"<html>", "bad content coding"),
        ("gzip", TEXT, "bad content coding"),
        ("gzip", gzipped() + b"garbage", "bad content coding"),
        ("gzip", gzipped() + b"\0", "bad content coding|ends before"),
        ("gzip", gzipped()[:-8] + bytes(8), "bad content coding"),
        ("deflate", zlib.compress(TEXT) + b"x", "behind the end"),
        ("deflate", deflated(TEXT) + b"x", "behind the end"),
    ],
)
def test_refused(coding: str, data: bytes, cause: str, how: str) -> None:
    for dribble in (False, True):
        text = error(fetched(framed(how, data, coding), dribble=dribble))
        assert ": reading the response: " in text
        assert any(each in text for each in cause.split("|")), text


@pytest.mark.parametrize("how", FRAMINGS)
def test_bombs(how: str) -> None:
    """The limit is one of what comes out, and what is beyond it is not made."""
    bomb = gzipped(bytes(50_000_000))
    assert len(bomb) < 50_000
    for limits in (silly.Limits(body=100_000), silly.Limits()):
        text = error(fetched(framed(how, bomb, "gzip"), limits=limits))
        assert f"longer than the limit 'body' of {limits.body} bytes" in text
    body = bytes(100_000)
    assert taken(fetched(framed(how, gzipped(body), "gzip"), limits=silly.Limits(body=100_000))).body == body
    assert "longer" in error(fetched(framed(how, gzipped(body), "gzip"), limits=silly.Limits(body=99_999)))


def test_what_comes_encoded_may_be_longer_than_the_limit() -> None:
    noise = bytes((i * i * 7 + i * 13) >> 3 & 255 for i in range(1000))
    data = deflated(noise, 31)
    body = taken(fetched(framed("length", data, "gzip"), limits=silly.Limits(body=len(noise)))).body
    assert body == noise


def test_endless_coding_of_nothing() -> None:
    """No byte ever comes out of it, so no limit of the body would end it."""

    def answer(peer: Raw) -> None:
        peer.conn.write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        while peer.conn.write(gzipped(b"") * 1000):
            turn()

    with origin(lambda asked: answer) as server, using() as client:
        assert "far longer" in error(client.get(server.url))


@pytest.mark.parametrize("how", FRAMINGS)
def test_reading_a_bomb_piece_by_piece(how: str) -> None:
    """Memory holds one piece, and the connection serves on."""
    data = framed(how, gzipped(bytes(5_000_000)), "gzip")
    with origin((lambda asked: lambda peer: peer.send(data)) if how == "close" else data) as server, using() as client:
        with taken(client.request("GET", server.url)) as stream:
            stream.closewrite()
            assert stream.read(10) == (bytes(10), None)
            assert len(stream._decoded) < 100_000
            pieces = stream.pieces()
            sizes = [len(piece) for piece in pieces]
            assert pieces.err is None
            assert sum(sizes) == 5_000_000 - 10
            assert max(sizes) < 200_000
            assert stream.read(1) == (None, errno.EOF)
        if how != "close":
            assert taken(client.get(server.url)).status == 200
            assert server.connections == 1


def test_reading_exactly_what_there_is() -> None:
    with origin(framed("chunked", gzipped(), "gzip")) as server, using() as client:
        for _ in range(2):
            with taken(client.request("GET", server.url)) as stream:
                stream.closewrite()
                assert stream.read(len(TEXT)) == (TEXT, None)
                assert stream.read(1) == (None, errno.EOF)
                assert stream.readall() == (b"", None)
        assert server.connections == 1


def test_events_come_as_they_are_sent() -> None:
    """What was flushed is given to the reader at once."""
    go = channel.new()

    def answer(peer: Raw) -> None:
        stream = zlib.compressobj(wbits=31)
        peer.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        for number in range(3):
            peer.send(stream.compress(b"event %d\n" % number) + stream.flush(zlib.Z_SYNC_FLUSH))
            go.pop()
        peer.send(stream.flush())

    with origin(lambda asked: answer) as server, using() as client, taken(client.request("GET", server.url)) as stream:
        stream.closewrite()
        for number in range(3):
            assert stream.read(8) == (b"event %d\n" % number, None)
            go.push(1)
        assert stream.readall() == (b"", None)
