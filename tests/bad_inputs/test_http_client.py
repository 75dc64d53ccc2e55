"""Responses that broke clients: their framing, chunks, trailers, interim answers, ends and limits.

Whatever the server sends, a caller gets the whole response or an error, and what follows is never taken for the next answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from silly import errno, time
from silly._wire.chunked import ChunkedReader
from silly.net import http
from silly.sync import channel

from ..helpers import Peer, turn
from ..net.support import until
from .support import (
    BODY_READERS,
    GOOD,
    KIB,
    MIB,
    POISON,
    TCP,
    Memory,
    Told,
    Way,
    both_transports,
    every_way,
    fin_without_close_notify,
    first_then_good,
    origin,
    response_refused,
)
from .test_http_bodies import CHUNKS, DATA, GOOD_CHUNKS, LOOSE_CHUNKS, MANY, TRAILERS

OK = "HTTP/1.1 200 OK\r\n"


def head(*fields: str, first: str = "HTTP/1.1 200 OK", body: str | bytes = b"") -> bytes:
    """A response, byte for byte as given."""
    text = "\r\n".join([first, *fields, "", ""]).encode("latin-1")
    return text + (body.encode("latin-1") if isinstance(body, str) else body)


def chunked(body: str | bytes, *fields: str) -> bytes:
    """A response whose chunked body is ``body``, as it goes on the wire."""
    return head("Transfer-Encoding: chunked", *fields, body=body)


# ---- framing --------------------------------------------------------------------------------------------------------

CHUNK = "3\r\nabc\r\n0\r\n\r\n"
FRAMING: dict[str, bytes] = {
    # aiohttp CVE-2023-47641 and its like: two framings
    "cve-2023-47641-length-then-coding": head("Content-Length: 13", "Transfer-Encoding: chunked", body=CHUNK),
    "cve-2023-47641-coding-then-length": head("Transfer-Encoding: chunked", "Content-Length: 13", body=CHUNK),
    "cve-2023-47641-length-0": head("Content-Length: 0", "Transfer-Encoding: chunked", body=CHUNK),
    "cve-2023-47641-other-case": head("CONTENT-LENGTH: 13", "TRANSFER-ENCODING: CHUNKED", body=CHUNK),
    "cve-2023-47641-identity": head("Content-Length: 3", "Transfer-Encoding: identity", body="abc"),
    "cve-2023-47641-empty-coding": head("Content-Length: 3", "Transfer-Encoding:", body="abc"),
    "length-twice-equal": head("Content-Length: 3", "Content-Length: 3", body="abc"),
    "length-twice-different": head("Content-Length: 3", "Content-Length: 41", body="abc"),
    "length-twice-in-a-list": head("Content-Length: 3, 3", body="abc"),
    "length-list-different": head("Content-Length: 3, 41", body="abc"),
    "length-list-with-nothing": head("Content-Length: 3,", body="abc"),
    # aiohttp CVE-2023-47627, CVE-2025-69224: lenient numbers
    "cve-2023-47627-plus": head("Content-Length: +5", body="abcde"),
    "cve-2023-47627-minus": head("Content-Length: -5", body="abcde"),
    "cve-2023-47627-minus-zero": head("Content-Length: -0"),
    "cve-2023-47627-plus-zero": head("Content-Length: +0"),
    "cve-2023-47627-underscore": head("Content-Length: 5_0", body="a" * 50),
    "cve-2023-47627-0x": head("Content-Length: 0x5", body="abcde"),
    "cve-2023-47627-0o": head("Content-Length: 0o5", body="abcde"),
    "cve-2023-47627-inner-space": head("Content-Length: 0 5", body="abcde"),
    "cve-2023-47627-vertical-tab": head("Content-Length: 5\x0b", body="abcde"),
    "cve-2023-47627-float": head("Content-Length: 5.0", body="abcde"),
    "cve-2023-47627-exponent": head("Content-Length: 1e1", body="0123456789"),
    "cve-2023-47627-word": head("Content-Length: five", body="abcde"),
    "cve-2023-47627-empty": head("Content-Length:", body="abcde"),
    "cve-2023-47627-quoted": head('Content-Length: "5"', body="abcde"),
    "cve-2023-47627-parameter": head("Content-Length: 5;x", body="abcde"),
    "cve-2025-69224-arabic-digit": head("Content-Length: \xd9\xa5", body="abcde"),
    "cve-2025-69224-superscript": head("Content-Length: \xb2", body="ab"),
    "cve-2025-69224-fullwidth": head("Content-Length: \xef\xbc\x95", body="abcde"),
    "cve-2025-69224-no-break-space": head("Content-Length: 5\xa0", body="abcde"),
    "length-2^63": head("Content-Length: 9223372036854775808", body="abcde"),
    "length-2^64+5": head("Content-Length: 18446744073709551621", body="abcde"),
    "length-of-2000-digits": head(f"Content-Length: {'0' * 2000}5", body="abcde"),
    # transfer codings
    "coding-xchunked": head("Transfer-Encoding: xchunked", body=CHUNK),
    "coding-chunked123": head("Transfer-Encoding: chunked123", body=CHUNK),
    "coding-chunked-twice": head("Transfer-Encoding: chunked, chunked", body=CHUNK),
    "coding-chunked-in-two-fields": head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNK),
    "coding-gzip-chunked": head("Transfer-Encoding: gzip, chunked", body=CHUNK),
    "coding-gzip": head("Transfer-Encoding: gzip", body=CHUNK),
    "coding-identity": head("Transfer-Encoding: identity", body="abc"),
    "coding-chunked-identity": head("Transfer-Encoding: chunked, identity", body=CHUNK),
    "coding-identity-chunked": head("Transfer-Encoding: identity, chunked", body=CHUNK),
    "coding-unknown": head("Transfer-Encoding: zstd-of-tomorrow", body=CHUNK),
    "coding-empty": head("Transfer-Encoding:", body=CHUNK),
    "coding-comma": head("Transfer-Encoding: ,", body=CHUNK),
    "coding-parameter": head("Transfer-Encoding: chunked;q=1", body=CHUNK),
    "coding-quoted": head('Transfer-Encoding: "chunked"', body=CHUNK),
    "coding-vertical-tab": head("Transfer-Encoding: \x0bchunked", body=CHUNK),
    "coding-no-break-space": head("Transfer-Encoding: \xa0chunked", body=CHUNK),
    "coding-in-http-1.0": head("Transfer-Encoding: chunked", first="HTTP/1.0 200 OK", body=CHUNK),
    "coding-and-length-in-http-1.0": head(
        "Content-Length: 3", "Transfer-Encoding: chunked", first="HTTP/1.0 200 OK", body="abc"
    ),
    # lines that parsers part differently (aiohttp CVE-2024-23829)
    "cve-2024-23829-space-before-colon": head("Content-Length : 5", body="abcde"),
    "cve-2024-23829-tab-before-colon": head("Content-Length\t: 5", body="abcde"),
    "cve-2024-23829-space-in-name": head("Content Length: 5", body="abcde"),
    "cve-2024-23829-space-first": head(" Content-Length: 5", body="abcde"),
    "cve-2024-23829-quotes-in-name": head('"Content-Length": 5', body="abcde"),
    "cve-2024-23829-latin-1-name": head("X\xe4: y", "Content-Length: 5", body="abcde"),
    "cve-2024-23829-no-colon": head("Content-Length", "Content-Length: 5", body="abcde"),
    "cve-2024-23829-no-name": head(": y", "Content-Length: 5", body="abcde"),
    "cve-2024-23829-nul-in-name": head("Content-Length\0: 5", body="abcde"),
    "obs-fold-first": head(" X: y", "Content-Length: 5", body="abcde"),
    "obs-fold-behind-the-status": head(" there", "Content-Length: 5", body="abcde"),
    "obs-fold-of-the-length": head("Content-Length:", " 5", body="abcde"),
    "obs-fold-behind-the-length": head("Content-Length: 5", " ", body="abcde"),
    "obs-fold-of-the-coding": head("Transfer-Encoding:", " chunked", body=CHUNK),
    "obs-fold-behind-the-coding": head("Transfer-Encoding: chunked", "\t", body=CHUNK),
    "obs-fold-of-the-connection": head("Connection:", " close", "Content-Length: 5", body="abcde"),
    "obs-fold-of-the-upgrade": head("Upgrade:", " h2c", "Content-Length: 5", body="abcde"),
    "obs-fold-of-a-websocket-field": head("Sec-WebSocket-Accept: x", " y", "Content-Length: 5", body="abcde"),
    "obs-fold-in-an-interim-one": head("Content-Length:", " 5", first="HTTP/1.1 103 Early") + head("Content-Length: 0"),
    "bare-lf": head("X: y\nContent-Length: 5", body="abcde"),
    "bare-lf-behind-the-status": b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nabcde",
    "bare-lf-all": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nabcde",
    "bare-lf-at-the-end": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nabcde",
    "bare-cr": head("X: y\rContent-Length: 5", body="abcde"),
    "cr-cr-lf": b"HTTP/1.1 200 OK\r\r\nContent-Length: 5\r\n\r\nabcde",
    "nul": head("X: y\0z", "Content-Length: 5", body="abcde"),
    "nul-at-the-end": head("Content-Length: 5\0", body="abcde"),
    "del": head("X: \x7f", "Content-Length: 5", body="abcde"),
    "esc": head("X: \x1b[2J", "Content-Length: 5", body="abcde"),
}


@every_way
@pytest.mark.parametrize("row", FRAMING)
def test_framing(row: str, way: Way) -> None:
    """An error, the end of the connection, and nothing of it in the next answer."""
    assert ": reading the response: " in response_refused(way, FRAMING[row])


@both_transports
@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("row", ["bare-lf", "obs-fold-of-the-coding", "cve-2024-23829-space-before-colon"])
def test_framing_for_other_methods(row: str, method: str, way: Way) -> None:
    response_refused(way, FRAMING[row], method=method)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("code", [204, 304, 200])
@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 45",),
        ("Transfer-Encoding: chunked",),
        ("Content-Length: 45", "Transfer-Encoding: chunked"),
        ("Content-Length: +5", "Content-Length: 0x5"),
    ],
)
def test_answers_that_have_no_body(fields: tuple[str, ...], code: int, version: str) -> None:
    """204, 304 and any answer to HEAD: framing fields there mean no body, and bytes behind are not an answer."""
    data = head(*fields, first=f"{version} {code} Status") + POISON
    with origin(TCP, first_then_good(TCP, data)) as server, TCP.client() as client:
        response, err = client.fetch("HEAD" if code == 200 else "GET", TCP.web(server))
        assert err is None
        assert (response.status, response.body) == (code, b"")
        assert client.get(TCP.web(server))[0].body == b"good"
        server.ended(0)
        assert len(server.connections) == 2


GOOD_HEADS = {
    "no-space": head("Content-Length:4", body="good"),
    "spaces-and-tabs": head("Content-Length: \t 4 \t", body="good"),
    "zeros": head("Content-Length: 0004", body="good"),
    "coding-in-other-case": head("transfer-encoding: CHUNKED", body="4\r\ngood\r\n0\r\n\r\n"),
    "coding-with-spaces": head("Transfer-Encoding: \tchunked ", body="4\r\ngood\r\n0\r\n\r\n"),
    "no-reason": head("Content-Length: 4", first="HTTP/1.1 200", body="good"),
    "empty-reason": head("Content-Length: 4", first="HTTP/1.1 200 ", body="good"),
    "latin-1-reason": head("Content-Length: 4", first="HTTP/1.1 200 D'accord, \xe9t\xe9", body="good"),
    "latin-1-value": head("X: \xe9", "Content-Length: 4", body="good"),
    "obs-fold": head("X: y", " z", "Content-Length: 4", "X: y", "\tz ", " ", body="good"),
    "obs-fold-in-an-interim-one": head("X: y", " z", first="HTTP/1.1 103 Early") + head("Content-Length: 4", body="good"),
    "obs-fold-like-a-length": head("Content-Length: 4", "X: y", "\tContent-Length: 41", body="good"),
    "obs-fold-like-a-coding": head("Content-Length: 4", "X: y", " Transfer-Encoding: chunked", body="good"),
    "unknown-fields": head("Content-Length: 4", "Content-Length-Of-Another: 9", "Upgrade: h2c", "Keep-Alive: x", body="good"),
}


@every_way
@pytest.mark.parametrize("row", GOOD_HEADS)
def test_good_framing(row: str, way: Way) -> None:
    """What RFC 9112 allows passes, and the connection serves on."""

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, GOOD_HEADS[row])

    with origin(way, answer) as server, way.client() as client:
        for _ in range(2):
            response, err = client.get(way.web(server))
            assert err is None
            assert response.body == b"good"
        assert len(server.connections) == 1


# ---- the status line ------------------------------------------------------------------------------------------------

SWITCH = ("Upgrade: websocket", "Connection: Upgrade")
FIRST_LINES: dict[str, bytes] = {
    # picows #64
    "picows-64-101-null": head(first="HTTP/1.1 101 null"),
    "picows-64-101-null-and-fields": head(*SWITCH, first="HTTP/1.1 101 null"),
    "picows-64-null": head(first="HTTP/1.1 null"),
    "101-unasked": head(*SWITCH, first="HTTP/1.1 101 Switching Protocols"),
    "101-without-fields": head(first="HTTP/1.1 101 Switching Protocols"),
    "101-with-a-length": head(*SWITCH, "Content-Length: 4", first="HTTP/1.1 101 Switching Protocols", body="evil"),
    "101-behind-100": head(first="HTTP/1.1 100 Continue") + head(*SWITCH, first="HTTP/1.1 101 Switching Protocols"),
    "http-0.9": b"<html><body>hello</body></html>\r\n",
    "http-0.9-with-an-empty-line": b"<html>\r\n\r\n<body>hello</body></html>\r\n\r\n",
    "http-0.9-text": b"hello\r\n\r\n",
    "icy": b"ICY 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n",
    "smtp": b"220 mail.example ESMTP\r\n\r\n",
    "request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-2-settings": b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0@\0",
    "tls-hello": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "tls-alert": b"\x15\x03\x01\0\x02\x02\x46",
    "proxy-v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    "nul": b"\0" * 20,
    "lf": b"\n" + GOOD,
    "cr": b"\r" + GOOD,
    "empty-lines": b"\r\n\r\n" + GOOD,
    "space-first": b" " + GOOD,
    "byte-order-mark": b"\xef\xbb\xbf" + GOOD,
    "version-http-2": head("Content-Length: 0", first="HTTP/2 200 OK"),
    "version-2.0": head("Content-Length: 0", first="HTTP/2.0 200 OK"),
    "version-1.2": head("Content-Length: 0", first="HTTP/1.2 200 OK"),
    "version-0.9": head("Content-Length: 0", first="HTTP/0.9 200 OK"),
    "version-1": head("Content-Length: 0", first="HTTP/1 200 OK"),
    "version-1.10": head("Content-Length: 0", first="HTTP/1.10 200 OK"),
    "version-01.1": head("Content-Length: 0", first="HTTP/01.1 200 OK"),
    "version-comma": head("Content-Length: 0", first="HTTP/1,1 200 OK"),
    "version-lower-case": head("Content-Length: 0", first="http/1.1 200 OK"),
    "version-arabic-digit": head("Content-Length: 0", first="HTTP/1.\xd9\xa1 200 OK"),
    "version-superscript": head("Content-Length: 0", first="HTTP/1.\xb9 200 OK"),
    "version-missing": head("Content-Length: 0", first="200 OK"),
    "status-missing": head("Content-Length: 0", first="HTTP/1.1"),
    "status-word": head("Content-Length: 0", first="HTTP/1.1 OK"),
    "status-of-two-digits": head("Content-Length: 0", first="HTTP/1.1 20 OK"),
    "status-of-four-digits": head("Content-Length: 0", first="HTTP/1.1 2000 OK"),
    "status-000": head("Content-Length: 0", first="HTTP/1.1 000 OK"),
    "status-099": head("Content-Length: 0", first="HTTP/1.1 099 OK"),
    "status-plus": head("Content-Length: 0", first="HTTP/1.1 +20 OK"),
    "status-minus": head("Content-Length: 0", first="HTTP/1.1 -20 OK"),
    "status-underscore": head("Content-Length: 0", first="HTTP/1.1 2_0 OK"),
    "status-hexadecimal": head("Content-Length: 0", first="HTTP/1.1 0xc8 OK"),
    "status-float": head("Content-Length: 0", first="HTTP/1.1 2.0 OK"),
    "status-superscript": head("Content-Length: 0", first="HTTP/1.1 20\xb2 OK"),
    "status-arabic-digits": head("Content-Length: 0", first="HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK"),
    "status-and-reason-joined": head("Content-Length: 0", first="HTTP/1.1 200OK"),
    "two-spaces": head("Content-Length: 0", first="HTTP/1.1  200 OK"),
    "tab": head("Content-Length: 0", first="HTTP/1.1\t200 OK"),
    "no-break-space": head("Content-Length: 0", first="HTTP/1.1\xa0200 OK"),
    "reason-with-nul": head("Content-Length: 0", first="HTTP/1.1 200 O\0K"),
    "reason-with-esc": head("Content-Length: 0", first="HTTP/1.1 200 \x1b[2J"),
    "reason-with-lf": head("Content-Length: 0", first="HTTP/1.1 200 O\nK"),
    "reason-with-cr": head("Content-Length: 0", first="HTTP/1.1 200 O\rK"),
}


@every_way
@pytest.mark.parametrize("row", FIRST_LINES)
def test_first_line(row: str, way: Way) -> None:
    response_refused(way, FIRST_LINES[row])


# ---- interim responses ----------------------------------------------------------------------------------------------

INTERIM = {
    "100": head(first="HTTP/1.1 100 Continue"),
    "102": head(first="HTTP/1.1 102 Processing"),
    "103": head("Link: </style.css>", first="HTTP/1.1 103 Early Hints"),
    "199": head(first="HTTP/1.1 199 Whatever"),
    "100-with-a-length": head("Content-Length: 500", first="HTTP/1.1 100 Continue"),
    "100-with-a-coding": head("Transfer-Encoding: chunked", first="HTTP/1.1 100 Continue"),
    "100-with-both": head("Content-Length: 5", "Transfer-Encoding: chunked", first="HTTP/1.1 100 Continue"),
    "100-with-close": head("Connection: close", first="HTTP/1.1 100 Continue"),
}


@every_way
@pytest.mark.parametrize("row", INTERIM)
def test_interim_response(row: str, way: Way) -> None:
    """It has no body whatever it says, and is not the answer; no field of it is one of the answer's."""

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, INTERIM[row] * 3 + GOOD)

    with origin(way, answer) as server, way.client() as client:
        for _ in range(2):
            response, err = client.get(way.web(server))
            assert err is None
            assert (response.status, response.body) == (200, b"good")
            assert dict(response.header) == {"content-length": "4"}
        assert len(server.connections) == 1


@every_way
@pytest.mark.parametrize("row", INTERIM)
def test_flood_of_interim_responses(row: str, way: Way) -> None:
    response_refused(way, INTERIM[row] * 30)


@both_transports
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_endless_interim_responses(method: str, way: Way) -> None:
    """No time-out is needed, and nothing is kept."""

    def answer(told: Told, peer: Peer) -> bool:
        while peer.conn.write(head(*["X: y"] * 20, first="HTTP/1.1 100 Continue") * 50):
            peer.conn._stream.flush()
            turn()
        return True

    with origin(way, answer) as server, way.client() as client, Memory() as memory:
        response, err = client.fetch(method, way.web(server), {"expect": "100-continue"}, b"x" * (method == "POST"))
        assert response is None
        assert "interim" in err
    assert memory.peak < MIB


@both_transports
def test_interim_response_with_a_body(way: Way) -> None:
    """There is none: what follows must be the next head."""
    response_refused(way, head("Content-Length: 4", first="HTTP/1.1 100 Continue", body="evil") + GOOD)


@both_transports
def test_interim_responses_do_not_put_off_the_end_of_waiting(way: Way) -> None:
    """``head_timeout`` is for all of them."""

    def answer(told: Told, peer: Peer) -> bool:
        for _ in range(3):
            peer.send(INTERIM["102"])
            turn(2)
        return True

    with origin(way, answer) as server, way.client(head_timeout=50) as client:
        response, err = client.get(way.web(server))
        assert response is None
        assert errno.TIMEDOUT in err


# ---- chunks ---------------------------------------------------------------------------------------------------------

NO_FETCH = {name: reader for name, reader in BODY_READERS.items() if name != "unread"}


@every_way
@pytest.mark.parametrize("row", CHUNKS)
def test_cve_2026_69244_malformed_chunks(row: str, way: Way) -> None:
    """An error in words, from code that was written for it; the rows are those of the server."""
    assert ": reading the response: " in response_refused(way, chunked(CHUNKS[row]))


@pytest.mark.parametrize("how", NO_FETCH)
@pytest.mark.parametrize("row", CHUNKS)
def test_cve_2026_69244_malformed_chunks_read_by_hand(row: str, how: str) -> None:
    """The reader sees an error, never an end; and the same again from every call that comes after."""
    with origin(TCP, first_then_good(TCP, chunked(CHUNKS[row]) + POISON)) as server, TCP.client() as client:
        stream, err = client.request("GET", TCP.web(server))
        assert err is None
        with stream:
            assert stream.closewrite()
            body, err = NO_FETCH[how](stream)
            assert isinstance(err, str)
            assert b"evil" not in (body or b"")
            assert stream.readall() == stream.read(1) == (None, err)
            assert stream.write("x")[1] == stream.closewrite()[1] == err
            assert dict(stream.trailer) == {}
        server.ended(0)
        assert client.get(TCP.web(server))[0].body == b"good"


@both_transports
@pytest.mark.parametrize("row", ["size-word", "cve-2025-43859-xx", "cve-2025-55315-lf-ends-extension"])
def test_cve_2026_69244_malformed_chunks_while_the_request_goes_on(row: str, way: Way) -> None:
    """An early answer, and a bad one: writing ends with an error, and so does reading."""
    with origin(way, first_then_good(way, chunked(CHUNKS[row])), bodies=False) as server, way.client() as client:
        stream, err = client.request("POST", way.web(server), {"content-length": 10_000})
        assert err is None
        with stream:
            assert stream.write("x")
            stream.flush()
            until(lambda: not stream.write("x") or stream._written > 9000)
            assert stream._written < 9000
            assert stream.status == 200
            body, err = stream.readall()
            assert body is None
            assert ": reading the response: " in err
        server.ended(0)


@every_way
@pytest.mark.parametrize("row", LOOSE_CHUNKS)
def test_what_only_clients_take(row: str, way: Way) -> None:
    """A chunk size padded by blanks, a folded trailer: what curl and http.client take; the connection serves on."""

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, chunked(LOOSE_CHUNKS[row], "X: y", "\tz"))

    with origin(way, answer) as server, way.client() as client:
        for _ in range(2):
            response, err = client.get(way.web(server))
            assert err is None
            assert (response.body, response.header["x"]) == (b"abcde", "y z")
            assert response.trailer == ({"x": "y z"} if "trailer" in row else {})
        assert len(server.connections) == 1


@every_way
@pytest.mark.parametrize("row", GOOD_CHUNKS)
def test_good_chunks(row: str, way: Way) -> None:
    expected: dict[str, Any] = {"upper-and-lower-case": b"0123456789" * 2, "empty": b"", "chunk-in-a-chunk": b"0\r\n\r\n"}

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, chunked(GOOD_CHUNKS[row]))

    with origin(way, answer) as server, way.client() as client:
        for _ in range(2):
            response, err = client.get(way.web(server))
            assert err is None
            if row == "request-in-a-chunk":
                assert response.body.startswith(b"GET /smuggled")
            else:
                assert response.body == expected.get(row, b"abcde")
        assert len(server.connections) == 1


@pytest.mark.parametrize("how", NO_FETCH)
def test_cve_2025_69229_work_is_linear(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body in 1-byte chunks: four times of them make four times the calls, and four times the bytes that those look at."""
    calls = []
    read = ChunkedReader.read

    def counted(self: ChunkedReader, buf: bytearray, *args: Any) -> bytes:
        calls.append(len(buf))
        return read(self, buf, *args)

    monkeypatch.setattr(ChunkedReader, "read", counted)

    def work(count: int) -> tuple[int, int]:
        def answer(told: Told, peer: Peer) -> None:
            peer.send(chunked(b""))
            for _ in range(count // 256):
                peer.send(b"1\r\nx\r\n" * 256)
                turn(2)
            peer.send(b"0\r\n\r\n")

        with origin(TCP, answer) as server, TCP.client() as client:
            stream, _ = client.request("GET", TCP.web(server))
            with stream:
                stream.closewrite()
                calls.clear()
                assert NO_FETCH[how](stream) == (b"x" * count, None)
        return len(calls), sum(calls)

    few, many = work(2048), work(8192)
    assert many[0] <= 5 * few[0]
    assert many[1] <= 5 * few[1]


# ---- trailers -------------------------------------------------------------------------------------------------------

MORE_TRAILERS = {
    "response": GOOD.decode(),
    "response-behind-a-field": "X: y\r\n" + GOOD.decode(),
    "status-line": "HTTP/1.1 200 OK\r\n\r\n",
}


@every_way
@pytest.mark.parametrize("row", [*TRAILERS, *MORE_TRAILERS])
def test_cve_2023_41419_cve_2025_53643_cve_2025_58068_trailers(row: str, way: Way) -> None:
    """A hidden message, or a field that may not come so late: the whole response is refused."""
    response_refused(way, chunked(DATA + {**TRAILERS, **MORE_TRAILERS}[row]))


SMALL = {"head": 2000, "line": 400, "header_lines": 20}


@every_way
@pytest.mark.parametrize("row", MANY)
def test_cve_2026_22815_cve_2026_54277_trailers_over_the_limit(row: str, way: Way) -> None:
    """Bounded as heads are, in pieces too; without an end at the limit, not at the time-out."""
    response_refused(way, chunked(DATA + MANY[row]), limits=SMALL)


@every_way
def test_good_trailers(way: Way) -> None:
    """They are fields of their own, never of the head, nor of the next response."""
    answers = [chunked(f"{DATA}X-Sum: 5\r\nX-User: root\r\nX-Sum: 6\r\n\r\n"), chunked(DATA + "\r\n")]

    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, answers.pop(0))

    with origin(way, answer) as server, way.client() as client:
        got = [client.get(way.web(server))[0] for _ in range(2)]
        assert len(server.connections) == 1
    assert [response.body for response in got] == [b"abcde"] * 2
    assert [dict(response.trailer) for response in got] == [{"x-sum": "5, 6", "x-user": "root"}, {}]
    assert [response.header["x-user"] for response in got] == [None, None]


# ---- heads over the limits ------------------------------------------------------------------------------------------

HEADS: dict[str, bytes] = {
    "lines": head(*["X: y"] * 20, "Content-Length: 0"),
    "lines-all-equal": head(*["Content-Length: 0"] * 21),
    "line": head(f"X: {'y' * 398}", "Content-Length: 0"),
    "name": head(f"{'x' * 400}: y", "Content-Length: 0"),
    "reason": head("Content-Length: 0", first=f"HTTP/1.1 200 {'x' * 388}"),
    "folded-line": head(f"X: {'y' * 200}", f" {'z' * 195}", "Content-Length: 0"),
    "folds-without-end": OK.encode() + b"X: y" + b"\r\n z" * 1000,
    "all": head(*[f"X: {'y' * 300}"] * 7, "Content-Length: 0"),
    "lines-without-end": OK.encode() + b"X: y\r\n" * 1000,
    "line-without-end": OK.encode() + b"X: " + b"y" * 5000,
    "name-without-end": OK.encode() + b"x" * 5000,
    "reason-without-end": b"HTTP/1.1 200 " + b"x" * 5000,
    "first-line-without-end": b"x" * 5000,
    "all-without-end": OK.encode() + f"X: {'y' * 300}\r\n".encode() * 15,
    "interim": head(*["X: y"] * 21, first="HTTP/1.1 100 Continue"),
    "interim-line": head(f"X: {'y' * 398}", first="HTTP/1.1 103 Early Hints"),
}


@every_way
@pytest.mark.parametrize("row", HEADS)
def test_cve_2026_54277_head_over_the_limit(row: str, way: Way) -> None:
    """By a line or a byte; each limit holds in pieces as it does whole."""
    response_refused(way, HEADS[row], limits=SMALL)


@every_way
@pytest.mark.parametrize(
    "data",
    [
        head(*["X: y"] * 19, "Content-Length: 4", body="good"),
        head(f"X: {'y' * 397}", "Content-Length: 4", body="good"),
        head(f"X: {'y' * 200}", f" {'z' * 194}", "Content-Length: 4", body="good"),
        head("Content-Length: 4", first=f"HTTP/1.1 200 {'x' * 387}", body="good"),
    ],
    ids=["lines", "line", "folded-line", "reason"],
)
def test_cve_2026_54277_head_at_the_limit(data: bytes, way: Way) -> None:
    def answer(told: Told, peer: Peer) -> None:
        way.deliver_all(peer, data)

    with origin(way, answer) as server, way.client(SMALL) as client:
        for _ in range(2):
            response, err = client.get(way.web(server))
            assert err is None
            assert response.body == b"good"
        assert len(server.connections) == 1


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "first-line": (b"HTTP/1.1 200 ", b"x" * 5000),
    "head-lines": (OK.encode(), b"X: yyyyyyyyy\r\n" * 400),
    "head-line": (OK.encode() + b"X: ", b"y" * 5000),
    "head-name": (OK.encode(), b"x" * 5000),
    "trailer-lines": (chunked(DATA), b"X: yyyyyyyyy\r\n" * 400),
    "trailer-line": (chunked(DATA) + b"X: ", b"y" * 5000),
    "chunk-size": (chunked(""), b"0" * 5000),
    "chunk-extension": (chunked("5;"), b"x" * 5000),
    "chunk-extensions": (chunked(""), b"1;" + b"x" * 200 + b"\r\ny\r\n"),
    "last-chunk-extension": (chunked("5\r\nabcde\r\n0;"), b"x" * 5000),
    "body-by-length": (head("Content-Length: 9223372036854775807"), b"x" * 5000),
    "body-in-chunks": (chunked(""), b"100\r\n" + b"x" * 256 + b"\r\n"),
    "body-in-one-chunk": (chunked("7fffffffffffffff\r\n"), b"x" * 5000),
    "body-up-to-the-end": (head("Connection: close"), b"x" * 5000),
    "empty-lines": (b"", b"\r\n" * 1000),
}


@both_transports
@pytest.mark.parametrize("row", ENDLESS)
def test_endless_response(row: str, way: Way) -> None:
    """A limit, not a time-out, ends a server that never stops sending; its bytes are not kept."""
    begin, more = ENDLESS[row]

    def answer(told: Told, peer: Peer) -> bool:
        peer.conn.write(begin)
        while peer.conn.write(more * 4):
            peer.conn._stream.flush()
            turn()
        return True

    with origin(way, answer) as server, way.client({"body": 100 * KIB}) as client, Memory() as memory:
        response, err = client.get(way.web(server))
        assert response is None
        assert ": reading the response: " in err
    assert memory.peak < 2 * MIB


@both_transports
def test_announced_chunk_extensions_are_bounded_in_pieces_too(way: Way) -> None:
    """``pieces`` has no limit on the body; on what is not the body there is one."""
    begin, more = ENDLESS["chunk-extensions"]

    def answer(told: Told, peer: Peer) -> bool:
        peer.conn.write(begin)
        while peer.conn.write(more * 10):
            peer.conn._stream.flush()
            turn()
        return True

    with origin(way, answer) as server, way.client() as client:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            pieces = stream.pieces()
            assert sum(map(len, pieces)) < 2000
            assert "chunk extensions" in pieces.err


@both_transports
@pytest.mark.parametrize("length", [17 * MIB, 2**31, 2**32 + 5, 2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize("how", ["fetch", "read"])
def test_cve_2026_54274_announced_length(how: str, length: int, way: Way) -> None:
    """Nothing is allocated for a promise: ``readall`` refuses it from the head, ``read`` waits for what comes."""

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(head(f"Content-Length: {length}", body="x"))
        if how == "read":
            turn(3)
            peer.conn.close()
        return True

    with origin(way, answer) as server, way.client() as client, Memory() as memory:
        if how == "fetch":
            response, err = client.get(way.web(server))
            assert response is None
            assert "'body'" in err
        else:
            stream, _ = client.request("GET", way.web(server))
            with stream:
                stream.closewrite()
                data, err = stream.read(length)
                assert data is None
                assert errno.EOF in err
        assert memory.peak < MIB


DRIBBLED = {
    "head": (OK + "X: ", "x", {"head_timeout": 60}),
    "head-behind-interim": (INTERIM["100"].decode() + "HTTP/1.1 200 ", "x", {"head_timeout": 60}),
    "body": (head("Content-Length: 1000000").decode(), "x", {"timeout": 60}),
    "chunks": (chunked("").decode(), "1\r\nx\r\n", {"timeout": 60}),
    "trailer": (chunked("0\r\nX: ").decode(), "x", {"timeout": 60}),
}


@both_transports
@pytest.mark.parametrize("row", DRIBBLED)
def test_a_byte_now_and_then(row: str, way: Way) -> None:
    """``head_timeout`` and ``timeout`` are for the whole, so that no server holds a client by dribbling."""
    begin, more, options = DRIBBLED[row]

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(begin)
        while peer.conn.write(more):
            peer.conn._stream.flush()
            turn()
        return True

    limits = {"head": 2**30, "line": 2**30}
    with origin(way, answer) as server, way.client(limits, **options) as client:
        response, err = client.get(way.web(server))
        assert response is None
        assert "60 ms" in err or "the total time-out" in err


NEVER_ENDING = {
    "all": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nabcde",
    "all-by-cr": b"HTTP/1.1 200 OK\rContent-Length: 5\r\r",
    "last-line": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nabcde",
    "interim": b"HTTP/1.1 100 Continue\n\n",
    "behind-interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\n\n",
    "trailers": chunked("0\r\nX: y\n\n"),
}


@every_way
@pytest.mark.parametrize("row", NEVER_ENDING)
def test_a_head_by_bare_lf_is_refused_at_once(row: str, way: Way) -> None:
    """At the byte that proves it: the server keeps the connection open, and no time-out is near."""

    def answer(told: Told, peer: Peer) -> None:
        way.deliver(peer, NEVER_ENDING[row])

    with origin(way, answer) as server, way.client(head_timeout=10**6, read_timeout=10**6) as client:
        response, err = client.get(way.web(server))
        assert response is None
        assert "bare LF" in err


@both_transports
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("first", [0, 2 * MIB])
def test_a_body_slower_than_its_rate(first: int, framing: str, way: Way) -> None:
    """What ``readall`` holds for a server that dribbles is held no longer than a request's body: ``body_rate``."""

    def answer(told: Told, peer: Peer) -> bool:
        if framing == "length":
            peer.send(head("Content-Length: 16000000", body=bytes(first)))
        else:
            peer.send(chunked("") + (b"%x\r\n%b\r\n" % (first, bytes(first)) if first else b""))
        while peer.conn.write("x" if framing == "length" else "1\r\nx\r\n"):
            peer.conn._stream.flush()
            time.sleep(2)
        return True

    with origin(way, answer) as server, way.client({"body_rate": 10**4}, read_timeout=40) as client:
        response, err = client.get(way.web(server))
        assert response is None
        assert "the response's body is slower than the limit 'body_rate' of 10000 bytes a second" in err


def slow_chunks(peer: Peer) -> None:
    """Sends 40 chunks of a byte, slower than the rates below and faster than silence."""
    for _ in range(40):
        peer.send("1\r\nx\r\n")
        time.sleep(10)


@both_transports
def test_a_read_after_a_readall_that_timed_out_has_no_rate(way: Way) -> None:
    timed_out = channel.new()

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(chunked(""))
        timed_out.pop()
        slow_chunks(peer)
        return True

    with origin(way, answer) as server, way.client({"body_rate": 10**6}, read_timeout=100) as client:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            assert stream.waitresponse()[0]
            assert stream.readall(timeout=20) == (None, errno.TIMEDOUT)
            timed_out.push(True)
            for _ in range(40):
                assert stream.read(1) == (b"x", None)


@both_transports
@pytest.mark.parametrize("how", ["read", "pieces"])
def test_a_stream_of_events_may_be_slow(how: str, way: Way) -> None:
    """What is read piece by piece isn't gathered, so only silence ends it. And then ``readall`` may take the rest."""

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(chunked(""))
        slow_chunks(peer)
        peer.send("2\r\nyz\r\n0\r\n\r\n")
        return True

    with origin(way, answer) as server, way.client({"body_rate": 10**6}, read_timeout=100) as client:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            if how == "read":
                for _ in range(40):
                    assert stream.read(1) == (b"x", None)
                assert stream.readall() == (b"yz", None)
            else:
                pieces = stream.pieces()
                assert b"".join(pieces) == b"x" * 40 + b"yz"
                assert pieces.err is None


@both_transports
def test_a_time_out_that_allows_silence_allows_slowness(way: Way) -> None:
    """A caller who waits for a minute of silence isn't told of slowness after less."""

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(head("Content-Length: 2", body="x"))
        time.sleep(200)
        peer.send("y")
        return True

    with origin(way, answer) as server, way.client({"body_rate": 10**6}, read_timeout=20) as client:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            assert stream.readall(timeout=60_000) == (b"xy", None)


# ---- early ends -----------------------------------------------------------------------------------------------------

CUT: dict[str, bytes] = {
    "nothing": b"",
    "first-line": b"HTTP/1.1 20",
    "head": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
    "interim": INTERIM["100"],
    "length-nothing": head("Content-Length: 5"),
    "length": head("Content-Length: 5", body="abcd"),
    "length-and-connection-close": head("Content-Length: 5", "Connection: close", body="abcd"),
    "length-in-http-1.0": head("Content-Length: 5", first="HTTP/1.0 200 OK", body="abcd"),
    "chunks-none": chunked(""),
    "chunk-size": chunked("5"),
    "chunk-size-cr": chunked("5\r"),
    "chunk-size-line": chunked("5\r\n"),
    "chunk": chunked("5\r\nabcd"),
    "chunk-whole": chunked("5\r\nabcde"),
    "chunk-cr": chunked("5\r\nabcde\r"),
    "between-chunks": chunked("5\r\nabcde\r\n"),
    "last-size": chunked("5\r\nabcde\r\n0"),
    "last": chunked("5\r\nabcde\r\n0\r\n"),
    "last-cr": chunked("5\r\nabcde\r\n0\r\n\r"),
    "trailer": chunked("5\r\nabcde\r\n0\r\nX: y"),
    "trailer-line": chunked("5\r\nabcde\r\n0\r\nX: y\r\n"),
    "chunks-and-connection-close": chunked("5\r\nabcde\r\n", "Connection: close"),
}
ENDS: dict[str, Callable[[Peer], object]] = {
    "fin": fin_without_close_notify,
    "close": lambda peer: peer.conn.close(),
    "reset": lambda peer: peer.reset(),
}


@both_transports
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["fetch", *NO_FETCH])
@pytest.mark.parametrize("row", CUT)
def test_response_cut_short(row: str, how: str, end: str, way: Way) -> None:
    """By a FIN (on TLS without close_notify), an ordered end or a reset: an error, never a short body."""

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(CUT[row])
        turn(2)
        ENDS[end](peer)
        return True

    with origin(way, answer) as server, way.client() as client:
        if how == "fetch":
            response, err = client.get(way.web(server))
            assert response is None
        else:
            stream, _ = client.request("GET", way.web(server))
            with stream:
                stream.closewrite()
                body, err = NO_FETCH[how](stream)
                assert how != "readall" or body is None
        assert isinstance(err, str)
        assert len(server.told) == 1, "a request is only repeated on a connection that had been idle"


@both_transports
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", NO_FETCH)
@pytest.mark.parametrize("first", ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK"])
def test_truncation_of_a_body_up_to_the_end(first: str, how: str, end: str, way: Way) -> None:
    """Only a proper end counts: close_notify on TLS, a FIN on plain TCP, which tells no more."""

    def answer(told: Told, peer: Peer) -> bool:
        peer.send(head(first=first, body="abcde"))
        turn(2)
        ENDS[end](peer)
        return True

    with origin(way, answer) as server, way.client() as client:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            body, err = NO_FETCH[how](stream)
    if end == "close" or (end == "fin" and not way.tls):
        assert (body, err) == (b"abcde", None)
    else:
        assert isinstance(err, str)
        assert how != "readall" or body is None


@both_transports
@pytest.mark.parametrize("end", ENDS)
def test_request_that_was_not_read(end: str, way: Way) -> None:
    """The server ends while a big body goes up: an error, at once."""

    def answer(told: Told, peer: Peer) -> bool:
        ENDS[end](peer)
        peer.conn._stream.abort() if end == "fin" else None
        return True

    with origin(way, answer, bodies=False) as server, way.client() as client:
        response, err = client.post(way.web(server), None, b"x" * 4 * MIB)
        assert response is None
        assert isinstance(err, str)


# ---- what comes behind a response -----------------------------------------------------------------------------------

SPLIT: dict[str, bytes] = {
    "length": GOOD,
    "length-0": head("Content-Length: 0"),
    "chunked": chunked("4\r\ngood\r\n0\r\n\r\n"),
    "trailer": chunked("4\r\ngood\r\n0\r\nX: y\r\n\r\n"),
    "204": head(first="HTTP/1.1 204 No Content"),
    "304": head(first="HTTP/1.1 304 Not Modified"),
    "http-1.0-kept": head("Content-Length: 4", "Connection: keep-alive", first="HTTP/1.0 200 OK", body="good"),
    "interim-before": INTERIM["103"] + GOOD,
}
BEHIND = {
    "response": POISON,
    "interim": INTERIM["100"] + POISON,
    "switch": head(*SWITCH, first="HTTP/1.1 101 Switching Protocols"),
    "line-end": b"\r\n" + POISON,
    "line-end-alone": b"\r\n",
    "byte": b"H",
    "space": b" ",
    "chunk": b"4\r\nevil\r\n0\r\n\r\n",
    "last-chunk": b"0\r\n\r\n",
}


@every_way
@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("row", SPLIT)
def test_response_splitting(row: str, behind: str, way: Way) -> None:
    """What a server sends behind its response is no answer to anything: the connection isn't used again."""
    with origin(way, first_then_good(way, SPLIT[row] + BEHIND[behind])) as server, way.client() as client:
        response, err = client.get(way.web(server))
        assert err is None
        assert response.body in (b"good", b"")
        turn(3)
        response, err = client.get(way.web(server, "/second"))
        assert err is None
        assert response.body == b"good"
        assert [told.connection for told in server.told] == [0, 1]
        server.ended(0)


@both_transports
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("when", ["at-once", "noticed"])
def test_response_splitting_while_idle(when: str, method: str, way: Way) -> None:
    """Bytes that came without a request; they may still be in the kernel."""

    def answer(told: Told, peer: Peer) -> None:
        peer.send(GOOD)

    with origin(way, answer) as server, way.client() as client:
        assert client.get(way.web(server))[0].body == b"good"
        turn(3)
        server.connections[0].send(POISON)
        if when == "noticed":
            turn(5)
        response, err = client.fetch(method, way.web(server, "/second"), None, b"x" if method == "POST" else None)
        assert err is None
        assert response.body == (b"" if method == "HEAD" else b"good")
        assert [told.connection for told in server.told] == [0, 1]


@both_transports
def test_response_splitting_between_request_and_write(way: Way) -> None:
    """``request`` took the connection; the poison comes before anything is sent."""

    def answer(told: Told, peer: Peer) -> None:
        peer.send(GOOD)

    with origin(way, answer) as server, way.client() as client:
        assert client.get(way.web(server))[0].body == b"good"
        stream, _ = client.request("POST", way.web(server))
        with stream:
            server.connections[0].send(POISON)
            turn(3)
            assert stream.closewrite("x")
            assert stream.readall() == (b"good", None)
        assert [told.connection for told in server.told] == [0, 1]


@both_transports
@pytest.mark.parametrize("row", SPLIT)
def test_unread_bodies_are_not_the_next_answer(row: str, way: Way) -> None:
    """A stream that is closed early takes its connection along."""
    data = SPLIT[row] if b"good" in SPLIT[row] else head("Content-Length: 1000") + POISON
    with origin(way, first_then_good(way, data)) as server, way.client() as client:
        stream, _ = client.request("GET", way.web(server))
        with stream:
            stream.closewrite()
            assert stream.waitresponse()
        response, err = client.get(way.web(server))
        assert err is None
        assert response.body == b"good"
        assert len(server.connections) == 2


@both_transports
def test_answer_before_the_request_was_sent(way: Way) -> None:
    """The rest of the request would be read as another: the connection isn't used again."""
    with origin(way, first_then_good(way, GOOD), bodies=False) as server, way.client() as client:
        stream, _ = client.request("POST", way.web(server), {"content-length": 100})
        with stream:
            stream.write("x")
            stream.flush()
            until(lambda: not stream.write(b"x"))
            assert stream.readall() == (b"good", None)
        response, err = client.get(way.web(server))
        assert err is None
        assert response.body == b"good"
        assert len(server.connections) == 2


# ---- the module's own client ----------------------------------------------------------------------------------------


def test_the_default_client_is_as_strict() -> None:
    with origin(TCP, first_then_good(TCP, FRAMING["cve-2023-47641-length-then-coding"])) as server:
        response, err = http.get(TCP.web(server))
        assert response is None
        assert "both" in err
        http.closeidle()
