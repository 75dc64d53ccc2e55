"""What the fuzz and differential tests generate. Derandomised and bounded: every run sees the same examples."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from .support import BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, encode

STEADY = settings(
    max_examples=250,
    derandomize=True,
    database=None,
    deadline=None,
    # A busy machine is no fault.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

OCTETS = st.binary(max_size=60)


@st.composite
def cuts(draw: Any, data: bytes) -> list[bytes]:
    """``data`` in pieces of any size."""
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)]


@st.composite
def damaged(draw: Any, data: bytes) -> bytes:
    """``data``, often with some of its bytes changed, inserted or left out."""
    out = bytearray(data)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(out)))
        what = draw(st.sampled_from(["change", "insert", "drop", "cut"]))
        byte = draw(st.one_of(st.sampled_from(b"\r\n \t:;,\0\x7f\x80\xff0aA"), st.integers(0, 255)))
        if what == "insert":
            out.insert(at, byte)
        elif what == "change" and at < len(out):
            out[at] = byte
        elif what == "drop":
            del out[at : at + 1]
        elif what == "cut":
            del out[at:]
    return bytes(out)


TEXTS = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"\xc3", b"\xa9", b"\xed\xa0\x80", b"\xf0\x9f", b"\x98\x80", b"\xf4\x90", b"\xe2\x82\xac", b"\xff"]),
)
CLOSES = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    st.sampled_from([999, 1000, 1001, 1004, 1005, 1011, 1012, 1014, 1015, 2999, 3000, 4999, 5000]),
    TEXTS,
)


@st.composite
def frame_streams(draw: Any, masked: bool) -> bytes:
    """Frames in an order that is mostly right, then damaged."""
    data = b""
    within = False
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["data", "data", "data", "ping", "close", "odd"]))
        fin = draw(st.sampled_from([0, FIN]))
        if kind == "data":
            first = fin | (CONT if within else draw(st.sampled_from([TEXT, BINARY])))
            within = not fin
            payload = draw(st.one_of(TEXTS, OCTETS))
        elif kind == "ping":
            first, payload = FIN | draw(st.sampled_from([PING, PONG])), draw(OCTETS)
        elif kind == "close":
            first, payload = FIN | CLOSE, draw(st.one_of(CLOSES, st.just(b""), st.binary(max_size=2)))
        else:
            first, payload = draw(st.integers(0, 255)), draw(OCTETS)
        size = draw(st.sampled_from([0, 0, 0, 0, 100, 126, 300]))
        form = draw(st.sampled_from([None, None, None, None, None, 2, 8]))
        data += encode(first, payload + b"x" * size, masked, form, draw(st.binary(min_size=4, max_size=4)))
    return bytes(draw(damaged(data)))


METHODS = ["GET"] * 8 + ["POST", "OPTIONS", "HEAD", "PUT", "CONNECT", "get", "G T", "G@T", ""]
TARGETS = ["/"] * 9
TARGETS += ["/a/b?c=d", "/%20", "*", "http://x/y", "https://x:1?z", "x:80", "//x", "/a#b", "/\xe9", "", "ftp://x/"]
VERSIONS = ["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/1", ""]
FIELDS = [
    *["Host: x", "Host: x:80", "Host: [::1]:8080", "host: y", "Host: a/b", "Host:", "Host: x:99999", "HOST:x"],
    *["Content-Length: 5", "Content-Length: 0", "content-length: 6", "Content-Length: +5", "Content-Length: 5, 5"],
    *["Content-Length: 9999999999999999999999", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked"],
    *["Transfer-Encoding: xchunked", "transfer-encoding: Chunked", "Connection: close", "Connection: keep-alive, Upgrade"],
    *["Upgrade: websocket", "Upgrade: WebSocket", "A: b", "A:b", "A: \t b \t", "A:", "a: c", "Set-Cookie: a", "Set-Cookie: c"],
    *[" folded", "\tfolded", "A : b", ": b", "nocolon", "A: b\0", "A: \xe9", "\xe9: a", "A: b\x01", "A\t: b", "A(: b"],
]
ENDS = ["\r\n"] * 40 + ["\n", "\r", "\r\r\n", "\n\r"]


@st.composite
def request_heads(draw: Any) -> bytes:
    """A request's head from parts that are mostly right, then damaged."""
    space = draw(st.sampled_from([" "] * 12 + ["  ", "\t"]))
    line = space.join([draw(st.sampled_from(METHODS)), draw(st.sampled_from(TARGETS)), draw(st.sampled_from(VERSIONS))])
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    if draw(st.sampled_from([True, True, True, False])):
        fields.insert(draw(st.integers(0, len(fields))), "Host: x")
    text = "".join(part + draw(st.sampled_from(ENDS)) for part in [line, *fields]) + "\r\n"
    return bytes(draw(damaged(text.encode("latin-1"))))


SIZES = ["0", "1", "2", "5", "a", "A", "00003", "5;a=b", "5 ;a", "5 ", "0x5", "+1", "", "g", "ffffffffffffffff", "2;\n"]


@st.composite
def chunked_bodies(draw: Any) -> bytes:
    data = b""
    for _ in range(draw(st.integers(0, 5))):
        payload = draw(st.binary(max_size=20))
        line = draw(st.one_of(st.just(f"{len(payload):x}"), st.just(f"{len(payload):X};x"), st.sampled_from(SIZES)))
        data += line.encode() + b"\r\n" + payload + draw(st.sampled_from([b"\r\n"] * 10 + [b"\n", b"", b"x\r\n"]))
    trailer = draw(st.lists(st.sampled_from(["A: b", "X-Sum: 1", "Host: x", "A : b", "GET / HTTP/1.1"]), max_size=2))
    data += b"0\r\n" + "".join(f"{line}\r\n" for line in trailer).encode() + b"\r\n"
    return bytes(draw(damaged(data)))


STATUS_LINES = ["HTTP/1.1 200 OK", "HTTP/1.1 101 Switching Protocols", "HTTP/1.0 404"] * 2
STATUS_LINES += ["HTTP/1.1 99 x", "HTTP/2 200", "", "junk"]
ANSWER_FIELDS = [
    *["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
    *["Sec-WebSocket-Protocol: x", "Content-Length: 0", "Content-Length: x", "Transfer-Encoding: chunked", "A: b", "B : c"],
]


@st.composite
def response_heads(draw: Any) -> bytes:
    lines = [draw(st.sampled_from(STATUS_LINES)), *draw(st.lists(st.sampled_from(ANSWER_FIELDS), max_size=6))]
    return bytes(draw(damaged("".join(f"{line}\r\n" for line in [*lines, ""]).encode())))
