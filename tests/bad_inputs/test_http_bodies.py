"""Request bodies that broke servers: chunks, their extensions, trailers, lengths that never come, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from silly import time
from silly._wire.chunked import ChunkedReader

from ..helpers import Raw, joined, spawn, turn
from ..net.support import until
from .support import (
    BODY_READERS,
    HTTP_LOG,
    KIB,
    MIB,
    SMUGGLED,
    TCP,
    TLS,
    Memory,
    Seen,
    Way,
    both_transports,
    chunked,
    every_way,
    fin_without_close_notify,
    http_answered,
    http_refused,
    post,
)

# ---- chunks ---------------------------------------------------------------------------------------------------------

GOOD_END = "0\r\n\r\n"
CHUNKS: dict[str, str] = {
    # aiohttp CVE-2024-52304: a line break in a chunk extension; .NET CVE-2025-55315: a lone one
    "cve-2024-52304-lf-in-extension": f"5;a\nb\r\nabcde\r\n{GOOD_END}",
    "cve-2024-52304-cr-in-extension": f"5;a\rb\r\nabcde\r\n{GOOD_END}",
    "cve-2024-52304-lf-then-size": f"5;\n5\r\nabcde\r\n{GOOD_END}",
    "cve-2025-55315-lf-ends-extension": f"5;a\nabcde\r\n{GOOD_END}",
    "cve-2025-55315-lf-behind-semicolon": f"5;\nabcde\r\n{GOOD_END}",
    "cve-2025-55315-cr-ends-extension": f"5;a\rabcde\r\n{GOOD_END}",
    "cve-2025-55315-lf-in-quotes": f'5;a="\n"\r\nabcde\r\n{GOOD_END}',
    "cve-2025-55315-crlf-in-quotes": f'5;a="\r\n"\r\nabcde\r\n{GOOD_END}',
    "cve-2025-55315-lf-in-the-last": "5\r\nabcde\r\n0;a\nb\r\n\r\n",
    "cve-2025-55315-request": f"2;\nxx\r\n45\r\n{GOOD_END}",
    "cve-2024-52304-nul-in-extension": f"5;a\0\r\nabcde\r\n{GOOD_END}",
    "cve-2024-52304-del-in-extension": f"5;a\x7f\r\nabcde\r\n{GOOD_END}",
    "extension-without-semicolon": f"5 a\r\nabcde\r\n{GOOD_END}",
    "extension-too-long": f"5;{'a' * 20000}\r\nabcde\r\n{GOOD_END}",
    "extension-without-end": "5;" + "a" * 20000,
    # aiohttp CVE-2023-47627, CVE-2025-69224: lenient numbers
    "cve-2023-47627-plus": f"+5\r\nabcde\r\n{GOOD_END}",
    "cve-2023-47627-minus": f"-5\r\nabcde\r\n{GOOD_END}",
    "cve-2023-47627-minus-zero": f"-0\r\n\r\n{GOOD_END}",
    "cve-2023-47627-underscore": f"1_0\r\n{'a' * 16}\r\n{GOOD_END}",
    "cve-2023-47627-0x": f"0x5\r\nabcde\r\n{GOOD_END}",
    "cve-2023-47627-space-first": f" 5\r\nabcde\r\n{GOOD_END}",
    "cve-2023-47627-tab-first": f"\t5\r\nabcde\r\n{GOOD_END}",
    "cve-2023-47627-vertical-tab": f"5\x0b\r\nabcde\r\n{GOOD_END}",
    "cve-2023-47627-inner-space": f"0 5\r\nabcde\r\n{GOOD_END}",
    "cve-2025-69224-superscript": f"\xb2\r\nab\r\n{GOOD_END}",
    "cve-2025-69224-arabic-digit": f"\xd9\xa5\r\nabcde\r\n{GOOD_END}",
    "cve-2025-69224-fullwidth": f"\xef\xbc\x95\r\nabcde\r\n{GOOD_END}",
    "cve-2025-69224-no-break-space": f"5\xa0\r\nabcde\r\n{GOOD_END}",
    "size-empty": f"\r\nabcde\r\n{GOOD_END}",
    "size-semicolon-alone": f";a=b\r\nabcde\r\n{GOOD_END}",
    "size-word": f"g\r\nabcde\r\n{GOOD_END}",
    "size-h": f"5h\r\nabcde\r\n{GOOD_END}",
    "size-float": f"5.0\r\nabcde\r\n{GOOD_END}",
    "size-2^63": f"8000000000000000\r\nabcde\r\n{GOOD_END}",
    "size-2^64-1": f"ffffffffffffffff\r\nabcde\r\n{GOOD_END}",
    "size-2^64+5": f"10000000000000005\r\nabcde\r\n{GOOD_END}",
    "size-of-1000-zeros": "0" * 20000 + f"5\r\nabcde\r\n{GOOD_END}",
    "size-without-end": "1" * 20000,
    # h11 CVE-2025-43859: any two bytes were taken for the end of a chunk
    "cve-2025-43859-xx": "5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n",
    "cve-2025-43859-lf": f"5\r\nabcde\n{GOOD_END}",
    "cve-2025-43859-lf-lf": f"5\r\nabcde\n\n{GOOD_END}",
    "cve-2025-43859-cr-cr": f"5\r\nabcde\r\r{GOOD_END}",
    "cve-2025-43859-lf-cr": f"5\r\nabcde\n\r{GOOD_END}",
    "cve-2025-43859-space": f"5\r\nabcde \r\n{GOOD_END}",
    "cve-2025-43859-none": f"5\r\nabcde{GOOD_END}",
    "cve-2025-43859-longer": f"2\r\nabcde\r\n{GOOD_END}",
    "cve-2025-43859-shorter": f"7\r\nabcde\r\n{GOOD_END}",
    "lf-behind-the-size": f"5\nabcde\r\n{GOOD_END}",
    "cr-behind-the-size": f"5\rabcde\r\n{GOOD_END}",
    "cr-cr-lf-behind-the-size": f"5\r\r\nabcde\r\n{GOOD_END}",
    "lf-behind-the-last": "5\r\nabcde\r\n0\n\r\n",
    "lf-for-the-end": "5\r\nabcde\r\n0\r\n\n",
    "lf-lf-for-the-end": "5\r\nabcde\r\n0\n\n",
    "cr-for-the-end": "5\r\nabcde\r\n0\r\n\r\r",
    "bytes-for-the-end": "5\r\nabcde\r\n0\r\nXX",
}


LOOSE_CHUNKS = {
    "size-then-space": f"5 \r\nabcde\r\n{GOOD_END}",
    "size-then-spaces": "5       \r\nabcde\r\n0       \r\n\r\n",
    "size-then-tab": f"5\t\r\nabcde\r\n{GOOD_END}",
    "folded-trailer": "5\r\nabcde\r\n0\r\nX: y\r\n z\r\n\r\n",
}
"""What only a client takes."""


@every_way
@pytest.mark.parametrize("row", LOOSE_CHUNKS)
def test_what_only_clients_take(row: str, way: Way, logs: Any) -> None:
    """Proxies read it in different ways."""
    logs.expect(HTTP_LOG)
    assert http_refused(way, chunked(LOOSE_CHUNKS[row]), handled=1).status == 400


@every_way
@pytest.mark.parametrize("row", CHUNKS)
def test_malformed_chunks(row: str, way: Way, logs: Any) -> None:
    """400 in the middle of the body, and what follows is neither body nor request."""
    logs.expect(HTTP_LOG)
    seen = Seen()
    response = http_refused(way, chunked(CHUNKS[row]), handled=1, seen=seen)
    assert response.status == 400
    assert len(logs.lines) == 1
    assert logs.lines[0].isprintable()
    ((body, err),) = seen.bodies
    assert body is None
    assert isinstance(err, str)


@pytest.mark.parametrize("how", ["read", "pieces"])
@pytest.mark.parametrize("row", CHUNKS)
def test_malformed_chunks_read_otherwise(row: str, how: str, logs: Any) -> None:
    """The reader sees an error, never an end, so that a part can't pass for the whole."""
    logs.expect(HTTP_LOG)
    seen = Seen(how)
    assert http_refused(TCP, chunked(CHUNKS[row]), handled=1, seen=seen).status == 400
    ((body, err),) = seen.bodies
    assert isinstance(err, str)
    assert body is not None
    assert b"GET" not in body


@both_transports
@pytest.mark.parametrize("row", CHUNKS)
def test_malformed_chunks_unread(row: str, way: Way, logs: Any) -> None:
    """The answer is out; what is left of the request can't be skipped, so the connection ends."""
    logs.expect(HTTP_LOG)
    seen = Seen("unread")
    with way.serving(seen) as server, way.dial(server) as peer:
        peer.send(chunked(CHUNKS[row]) + SMUGGLED)
        assert peer.response().status == 200
        peer.eof()
    assert seen.requests == ["POST /first"]


@both_transports
@pytest.mark.parametrize("row", ["cve-2025-43859-xx", "cve-2025-55315-lf-ends-extension", "size-word"])
def test_malformed_chunks_behind_an_answer(row: str, way: Way, logs: Any) -> None:
    """A handler that answers first, and reads then: nothing is added to the answer but its end."""
    logs.expect(HTTP_LOG)
    seen: list[str] = []

    def handler(stream: Any) -> None:
        seen.append(stream.path)
        stream.respond(200)
        stream.write("begun")
        stream.flush()
        assert stream.readall()[0] is None

    with way.serving(handler) as server, way.dial(server) as peer:
        peer.send(chunked(CHUNKS[row]) + SMUGGLED)
        head, _, body = peer.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body in (b"5\r\nbegun\r\n", b"5\r\nbegun\r\n0\r\n\r\n")
    assert seen == ["/first"]


GOOD_CHUNKS = {
    "plain": f"5\r\nabcde\r\n{GOOD_END}",
    "upper-and-lower-case": f"A\r\n0123456789\r\na\r\n0123456789\r\n{GOOD_END}",
    "zeros": "0005\r\nabcde\r\n000\r\n\r\n",
    "extension": f"5;a=b\r\nabcde\r\n{GOOD_END}",
    "extension-without-value": f"5;a;b\r\nabcde\r\n{GOOD_END}",
    "extension-quoted": f'5;a="b;c=\\"d"\r\nabcde\r\n{GOOD_END}',
    "extension-of-the-last": "5\r\nabcde\r\n0;a=b\r\n\r\n",
    "spaces-around-semicolon": f"5 ; a=b\r\nabcde\r\n{GOOD_END}",
    "request-in-a-chunk": f"23\r\n{SMUGGLED.decode()}\r\n{GOOD_END}",
    "chunk-in-a-chunk": f"5\r\n{GOOD_END}\r\n{GOOD_END}",
    "empty": GOOD_END,
}


@every_way
@pytest.mark.parametrize("row", GOOD_CHUNKS)
def test_good_chunks(row: str, way: Way) -> None:
    body = {"upper-and-lower-case": b"0123456789" * 2, "request-in-a-chunk": SMUGGLED, "empty": b""}.get(row, b"abcde")
    expected = GOOD_END.encode() if row == "chunk-in-a-chunk" else body
    assert http_answered(way, chunked(GOOD_CHUNKS[row])).body == expected


# ---- trailers -------------------------------------------------------------------------------------------------------

FORBIDDEN = [
    # framing, routing, control, authentication, and how to read the content (RFC 9110, section 6.5.1)
    "Transfer-Encoding: chunked",
    "Content-Length: 5",
    "Content-Length: 0",
    "Host: evil",
    "Trailer: x",
    "TE: trailers",
    "Connection: close",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "Max-Forwards: 1",
    "Cache-Control: no-cache",
    "Range: bytes=0-1",
    "If-Match: x",
    "If-None-Match: x",
    "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    "If-Range: x",
    "Authorization: Basic x",
    "Proxy-Authorization: Basic x",
    "Cookie: a=b",
    "Set-Cookie: a=b",
    "Content-Encoding: gzip",
    "Content-Type: text/html",
    "Content-Range: bytes 0-1/2",
]
TRAILERS: dict[str, str] = {
    "request": "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "request-line": "GET /smuggled HTTP/1.1\r\n\r\n",
    "request-behind-a-field": "X: y\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "request-with-a-colon": "GET http://x:80/smuggled HTTP/1.1\r\n\r\n",
    "request-of-another": "POST / HTTP/1.1\r\nX: y\r\nContent-Length: 5\r\n\r\nabcde",
    "no-colon": "X\r\n\r\n",
    "no-name": ": y\r\n\r\n",
    "space-before-colon": "X : y\r\n\r\n",
    "space-first": " X: y\r\n\r\n",
    "bare-lf": "X: y\nZ: z\r\n\r\n",
    "bare-cr": "X: y\rZ: z\r\n\r\n",
    "bare-lf-at-the-end": "X: y\r\n\n",
    "lf-lf": "X: y\n\n",
    "nul": "X: \0\r\n\r\n",
    "del": "X: \x7f\r\n\r\n",
    "latin-1-name": "X\xe4: y\r\n\r\n",
    **{f"forbidden-{line.split(':')[0].lower()}": f"{line}\r\n\r\n" for line in FORBIDDEN},
    "forbidden-in-other-case": "cONTENT-lENGTH: 5\r\n\r\n",
    "forbidden-behind-a-good-one": "X: y\r\nTransfer-Encoding: chunked\r\n\r\n",
}
DATA = "5\r\nabcde\r\n0\r\n"


@every_way
@pytest.mark.parametrize("row", TRAILERS)
def test_cve_2023_41419_cve_2025_53643_cve_2025_58068_trailers(row: str, way: Way, logs: Any) -> None:
    """gevent CVE-2023-41419, aiohttp CVE-2025-53643, eventlet CVE-2025-58068: a hidden request, or a field that matters."""
    logs.expect(HTTP_LOG)
    seen = Seen()
    assert http_refused(way, chunked(DATA + TRAILERS[row]), handled=1, seen=seen).status == 400
    assert seen.bodies[0][0] is None
    assert dict(seen.trailers[0]) == {}


@pytest.mark.parametrize("how", BODY_READERS)
@pytest.mark.parametrize("row", ["request", "forbidden-content-length", "no-colon"])
def test_cve_2023_41419_trailers_read_otherwise(row: str, how: str, logs: Any) -> None:
    logs.expect(HTTP_LOG)
    seen = Seen(how)
    with TCP.serving(seen) as server, TCP.dial(server) as peer:
        peer.send(chunked(DATA + TRAILERS[row]) + SMUGGLED)
        assert peer.response().status == (200 if how == "unread" else 400)
        peer.eof()
    assert seen.requests == ["POST /first"]
    if how != "unread":
        assert seen.bodies[0][1] is not None


SMALL = {"head": 2000, "line": 400, "header_lines": 20}
MANY: dict[str, str] = {
    "lines": "X: y\r\n" * 21 + "\r\n",
    "lines-without-end": "X: y\r\n" * 1000,
    "line": f"X: {'y' * 500}\r\n\r\n",
    "line-without-end": f"X: {'y' * 5000}",
    "name-without-end": "x" * 5000,
    "all": f"X: {'y' * 300}\r\n" * 7 + "\r\n",
    "all-without-end": f"X: {'y' * 300}\r\n" * 15,
}


@every_way
@pytest.mark.parametrize("row", MANY)
def test_cve_2026_22815_trailers_over_the_limit(row: str, way: Way, logs: Any) -> None:
    """Bounded as heads are; without an end at the limit, not at the time-out."""
    logs.expect(HTTP_LOG)
    assert http_refused(way, chunked(DATA + MANY[row]), handled=1, limits=SMALL).status in (400, 431)


@both_transports
def test_cve_2026_22815_endless_trailers_are_not_kept(way: Way, logs: Any) -> None:
    logs.expect(HTTP_LOG)
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer, Memory() as memory:
        peer.send(chunked(DATA))
        for _ in range(50):
            peer.conn.write(b"X: yyyyyyyy\r\n" * 2000)
            peer.conn._stream.flush()
            turn(2)
        assert peer.response().status in (400, 431)
    assert memory.peak < MIB
    assert seen.requests == ["POST /first"]


@every_way
def test_good_trailers(way: Way) -> None:
    """They are fields of their own, never of the head."""
    seen = Seen()
    headers = []

    def handler(stream: Any) -> None:
        headers.append(stream.header)
        seen(stream)

    with way.serving(handler) as server, way.dial(server) as peer:
        way.deliver_all(peer, chunked(f"{DATA}X-Sum: 5\r\nX-User: root\r\nX-Sum: 6\r\n\r\n"))
        assert peer.response().body == b"abcde"
    assert dict(seen.trailers[0]) == {"x-sum": "5, 6", "x-user": "root"}
    assert headers[0]["x-user"] is None


@every_way
def test_trailers_are_of_their_own_request(way: Way) -> None:
    """Those of one request aren't seen in the next."""
    seen = Seen()
    with way.serving(seen) as server, way.dial(server) as peer:
        way.deliver_all(peer, chunked(f"{DATA}X: y\r\n\r\n") + chunked(DATA + "\r\n"))
        assert [peer.response().body for _ in range(2)] == [b"abcde"] * 2
    assert [dict(trailer) for trailer in seen.trailers] == [{"x": "y"}, {}]


# ---- tiny chunks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "size"), [(TCP, MIB), (TLS, 128 * KIB)], ids=["tcp", "tls"])
def test_cve_2025_69229_1_mib_in_1_byte_chunks(size: int, way: Way) -> None:
    """Answered, and other clients are while it comes."""
    lengths = []

    def handler(stream: Any) -> None:
        if stream.method == "POST":
            lengths.append(len(stream.readall()[0]))
        stream.respond(200)
        stream.close("ok")

    with way.serving(handler) as server, way.dial(server) as peer, way.dial(server) as other:
        flooding = spawn(lambda: peer.conn.write(chunked(b"1\r\nx\r\n" * size + b"0\r\n\r\n")))
        asked = 0
        while not lengths:
            other.request("/other")
            assert other.response().status == 200
            asked += 1
        assert asked > 5
        assert peer.response().status == 200
        joined(flooding)
    assert lengths == [size]


def test_cve_2025_69229_memory_is_by_bytes_not_by_chunks(logs: Any) -> None:
    """A byte in a chunk of its own costs a byte, however it arrives."""
    size = 64 * KIB
    seen = Seen()
    with TCP.serving(seen) as server, TCP.dial(server) as peer:
        piece = b"1\r\nx\r\n" * 512
        peer.send(chunked(b""))
        until(lambda: seen.requests)
        with Memory() as memory:
            for _ in range(size // 512):
                peer.send(piece)
                turn()
        assert memory.held < 4 * size
        assert memory.peak < 6 * size
        peer.send(b"0\r\n\r\n")
        assert peer.response().body == b"x" * size


@pytest.mark.parametrize("how", ["readall", "read", "pieces"])
def test_cve_2025_69229_work_is_linear(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the chunks: four times the calls, and four times the bytes that those have before them."""
    calls = []
    read = ChunkedReader.read

    def counted(self: ChunkedReader, buf: bytearray, *args: Any) -> bytes:
        calls.append(len(buf))
        return read(self, buf, *args)

    monkeypatch.setattr(ChunkedReader, "read", counted)

    def work(count: int) -> tuple[int, int]:
        calls.clear()
        seen = Seen(how)
        with TCP.serving(seen) as server, TCP.dial(server) as peer:
            for _ in range(count // 256):
                peer.send((b"" if seen.requests else chunked(b"")) + b"1\r\nx\r\n" * 256)
                turn(2)
            peer.send(b"0\r\n\r\n")
            assert peer.response().body == b"x" * (count // 256 * 256)
        return len(calls), sum(calls)

    few, many = work(2048), work(8192)
    assert many[0] <= 5 * few[0]
    assert many[1] <= 5 * few[1]


# ---- bodies that don't come -----------------------------------------------------------------------------------------


@both_transports
@pytest.mark.parametrize("how", ["readall", "read"])
@pytest.mark.parametrize("length", [17 * MIB, 2**31, 2**32 + 5, 2**53 + 1, 2**63 - 1])
def test_cve_2026_54274_announced_length(length: int, how: str, way: Way, logs: Any) -> None:
    """Nothing is allocated for a promise: ``readall`` refuses it from the head, ``read`` waits for what comes."""
    logs.allow(HTTP_LOG)
    logs.allow("INFO tls: ")
    seen = Seen(how)
    with way.serving(seen) as server, way.dial(server) as peer:
        with Memory() as memory:
            peer.send(post(f"Content-Length: {length}", body="x"))
            until(lambda: seen.requests)
            for _ in range(20):
                peer.conn.write(b"x")
                turn()
        assert memory.peak < 256 * KIB
        if how == "readall":
            response = peer.response()
            assert response.status == 413
            assert response.header["connection"] == "close"
            peer.eof()
        else:
            peer.silent()
            peer.close()
            until(lambda: seen.bodies)
            assert seen.bodies[0][1] is not None
    assert seen.requests == ["POST /first"]


@both_transports
@pytest.mark.parametrize("size", ["12d", "1000001", "7fffffffffffffff"])
def test_cve_2026_54274_announced_chunk(size: str, way: Way, logs: Any) -> None:
    """A chunk past the limit is refused at its size, or where it passes the limit; nothing is kept for what it promises."""
    logs.expect(HTTP_LOG)
    seen = Seen()
    with Memory() as memory:
        data = chunked(f"{size}\r\n{'x' * 301}")
        assert http_refused(way, data, handled=1, seen=seen, limits={"body": 300}).status == 413
    assert memory.peak < MIB
    assert seen.bodies[0][0] is None


@every_way
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("over", [0, 1])
def test_body_at_the_limit_and_one_past_it(over: int, framing: str, way: Way, logs: Any) -> None:
    body = b"x" * (300 + over)
    if framing == "length":
        data = post(f"Content-Length: {len(body)}", body=body)
    else:
        data = chunked(b"64\r\n" + body[:100] + b"\r\n%x\r\n" % (len(body) - 100) + body[100:] + b"\r\n0\r\n\r\n")
    if over:
        logs.expect(HTTP_LOG)
        assert http_refused(way, data, handled=1, limits={"body": 300}).status == 413
    else:
        assert http_answered(way, data, limits={"body": 300}).body == body


@both_transports
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_over_the_handlers_own_limit(framing: str, way: Way, logs: Any) -> None:
    """``readall(limit)`` goes before the limit of the server, in both directions."""
    logs.allow(HTTP_LOG)
    results = []
    data = post("Content-Length: 5", body="abcde") if framing == "length" else chunked(DATA + "\r\n")

    def handler(stream: Any) -> None:
        body, err = stream.readall(limit=int(stream.query["limit"]))
        results.append(body)
        if err is None:
            stream.respond(200)
            stream.close(body)

    with way.serving(handler, {"body": 10}) as server:
        for limit, status in ((4, 413), (5, 200), (1000, 200)):
            with way.dial(server) as peer:
                peer.send(data.replace(b"/first", b"/?limit=%d" % limit))
                assert peer.response().status == status
                if status == 413:
                    peer.eof()
    assert results == [None, b"abcde", b"abcde"]


CUT = {
    "length": post("Content-Length: 40", body=SMUGGLED),
    "size": chunked("2"),
    "size-cr": chunked("23\r"),
    "chunk": chunked(b"40\r\n" + SMUGGLED),
    "between-chunks": chunked(b"23\r\n" + SMUGGLED + b"\r\n"),
    "last": chunked(b"23\r\n" + SMUGGLED + b"\r\n0\r\n"),
    "trailers": chunked(b"23\r\n" + SMUGGLED + b"\r\n0\r\nX: y\r\n"),
}


@both_transports
@pytest.mark.parametrize("end", ["fin", "close", "reset"])
@pytest.mark.parametrize("how", ["readall", "read", "pieces"])
@pytest.mark.parametrize("row", CUT)
def test_body_cut_short(row: str, how: str, end: str, way: Way, logs: Any) -> None:
    """By a FIN (on TLS without close_notify), an ordered end or a reset: an error, never a short body."""
    logs.allow(HTTP_LOG)
    logs.allow("INFO tls: ")
    seen = Seen(how)
    with way.serving(seen) as server:
        peer = way.dial(server)
        peer.send(CUT[row])
        until(lambda: seen.requests)
        turn(3)
        {"fin": lambda: fin_without_close_notify(peer), "close": peer.conn.close, "reset": peer.reset}[end]()
        until(lambda: seen.bodies)
        assert isinstance(seen.bodies[0][1], str)
        peer.close()
    assert seen.requests == ["POST /first"]


@both_transports
@pytest.mark.parametrize("row", CUT)
def test_body_that_stalls(row: str, way: Way, logs: Any) -> None:
    """408 and the end; what had come is no request."""
    logs.expect(HTTP_LOG)
    seen = Seen()
    with way.serving(seen, {"body_timeout": 20}) as server, way.dial(server) as peer:
        peer.send(CUT[row])
        assert peer.response().status == 408
        peer.eof()
    assert seen.requests == ["POST /first"]


@both_transports
@pytest.mark.parametrize("framing", ["length", "chunked", "trailer"])
@pytest.mark.parametrize("first", [0, 2 * MIB])
@pytest.mark.parametrize("how", ["readall", "pieces"])
def test_body_slower_than_its_rate(how: str, first: int, framing: str, way: Way, logs: Any) -> None:
    """A byte now and then keeps no handler for ever (slow body), whatever came at ``first``."""
    logs.expect(HTTP_LOG)
    seen = Seen(how)
    with way.serving(seen, {"body_timeout": 40, "body_rate": 10**4}) as server, way.dial(server) as peer:
        begin = post("Content-Length: 16000000") if framing == "length" else chunked("")
        peer.send(begin + (bytes(first) if framing == "length" or not first else b"%x\r\n%b\r\n" % (first, bytes(first))))
        if framing == "trailer":
            peer.send("0\r\nX: ")
        sent = 0
        while not peer.conn.unreadbytes() and peer.conn.write("1\r\nx\r\n" if framing == "chunked" else "x"):
            peer.conn._stream.flush()
            time.sleep(2)
            sent += 1
        assert peer.response().status == 408
        peer.eof()
    assert sent > 1
    assert "body_rate" in seen.bodies[0][1]


@both_transports
def test_upload_that_nobody_reads_is_held_by_tcp(way: Way, logs: Any) -> None:
    """Back-pressure: a handler that takes its time holds its client, and memory doesn't grow."""
    logs.allow("INFO ")
    sizes = []
    uploads: list[Raw] = []

    def handler(stream: Any) -> None:
        until(lambda: uploads)
        turn(30)
        sizes.append(stream.conn.unreadbytes())
        stream.respond(200)
        stream.close("enough")

    with way.serving(handler) as server, way.dial(server) as peer:
        flooding = spawn(lambda: peer.conn.write(post(f"Content-Length: {16 * MIB}") + b"x" * 16 * MIB))
        uploads.append(peer)
        assert peer.response().body == b"enough"
        peer.close()
        joined(flooding)
    assert sizes[0] <= 4 * 64 * KIB
