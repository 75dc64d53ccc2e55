"""The parsers against wsproto, h11 and httptools: the verdicts and values agree, but for the differences listed here.

A difference is a reason and a test of the input; each is there because a row or a generated input needs it. All but two of
them make us the stricter one: where two parsers disagree about a message, requests are smuggled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from silly._wire.limits import Limits
from silly._wire.ws import parse_close

from .strategies import STEADY, frame_streams, request_heads
from .support import BINARY, CLOSE, CONT, FIN, PING, TEXT, encode, read_frames, read_request
from .test_http_head import GOOD, HOSTILE

# ---- WebSocket frames: wsproto ----------------------------------------------------------------------------------------

NO_LIMITS = Limits(message=2**63 - 1, fragments=2**40)
"""wsproto has none."""


def wsproto_read(data: bytes, server: bool) -> tuple[list[tuple[int, Any]], int | None]:
    protocol = FrameProtocol(client=not server, extensions=[])
    protocol.receive_bytes(data)
    messages: list[tuple[int, Any]] = []
    parts: list[Any] = []
    try:
        for frame in protocol.received_frames():
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                parts.append(frame.payload)
                if frame.message_finished:
                    messages.append((int(frame.opcode), type(parts[0])().join(parts)))
                    parts = []
            elif frame.opcode is Opcode.CLOSE:
                messages.append((CLOSE, (int(frame.payload[0]), frame.payload[1])))
            else:
                messages.append((int(frame.opcode), bytes(frame.payload)))
    except ParseFailed as exc:
        return messages, int(exc.code)
    return messages, None


def our_read(data: bytes, server: bool) -> tuple[list[tuple[int, Any]], int | None]:
    got = read_frames([data], server, NO_LIMITS)
    messages: list[tuple[int, Any]] = []
    for opcode, value in got.messages:
        if opcode == CLOSE:
            # wsproto reads nothing behind a close frame; here that is the socket's part.
            return [*messages, (CLOSE, parse_close(value))], None
        messages.append((opcode, value))
    return messages, got.code


def check_frames(data: bytes, server: bool) -> str | None:
    """The reason of a difference that is meant, or None when there is no difference."""
    ours, theirs = our_read(data, server), wsproto_read(data, server)
    if ours == theirs:
        return None
    if ours[1] is not None and theirs[1] is None:
        # We refuse a header at the byte that proves it bad; wsproto when the header is whole. Whole, it is refused too.
        theirs = wsproto_read(data + bytes(14), server)
        if ours == theirs:
            return "told earlier"
    if (CLOSE, 1014) in [(op, value[0]) for op, value in ours[0] if op == CLOSE] and theirs[1] == 1002:
        # IANA registered 1014 (bad gateway) after the RFC.
        return "1014 may be sent"
    pytest.fail(f"{data.hex(' ')}: we say {ours}, wsproto says {theirs}")


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_frames_against_wsproto(server: bool) -> None:
    reasons = set()

    @STEADY
    @given(st.one_of(st.binary(max_size=30), frame_streams(server), frame_streams(server)))
    def run(data: bytes) -> None:
        reasons.add(check_frames(data, server))

    run()
    assert reasons <= {None, "told earlier", "1014 may be sent"}


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_first_bytes_and_lengths_against_wsproto(server: bool) -> None:
    """Every first byte, between messages and within one; each form of each length."""
    for before in (b"", encode(TEXT, b"", server), encode(BINARY, b"x", server)):
        for first in range(256):
            assert check_frames(before + encode(first, b"", server), server) in (None, "told earlier")
    for length in (0, 1, 125, 126, 127, 65535, 65536):
        for form in (0, 2, 8):
            if (form or length < 126) and length < 256 ** (form or 1):
                for first in (FIN | TEXT, FIN | BINARY, FIN | PING):
                    assert check_frames(encode(first, b"x" * length, server, form), server) in (None, "told earlier")
    for payload in (b"\xc3", b"\xed\xa0", b"\xf4\x90", b"\xf0\x9f\x98"):
        for frames in ([(FIN | TEXT, payload)], [(TEXT, payload), (FIN | CONT, b"")], [(TEXT, payload), (FIN | CONT, b"A")]):
            data = b"".join(encode(first, part, server) for first, part in frames)
            assert check_frames(data, server) in (None, "told earlier")


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_close_codes_against_wsproto(server: bool) -> None:
    different = [
        code
        for code in [*range(5100), 65535]
        if check_frames(encode(FIN | CLOSE, code.to_bytes(2, "big") + b"why", server), server)
    ]
    assert different == [1014]


# ---- request heads: h11 and httptools ---------------------------------------------------------------------------------

Parsed = tuple[str, str, dict[str, str]]
REFUSED, INCOMPLETE = "refused", "incomplete"


def joined(fields: list[tuple[str, str]]) -> dict[str, str]:
    """Fields as ``Header`` has them; h11 gives codings in lower case, we give Upgrade so."""
    out: dict[str, str] = {}
    for name, value in fields:
        value = value.strip(" \t")
        if name in ("upgrade", "transfer-encoding"):
            value = value.lower()
        if name not in out:
            out[name] = value
        elif name != "set-cookie":
            out[name] += f"; {value}" if name == "cookie" else f", {value}"
    return out


def h11_parse(data: bytes) -> Parsed | str:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return REFUSED
    if not isinstance(event, h11.Request):
        return INCOMPLETE
    fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    return event.method.decode(), event.target.decode(), joined(fields)


class Events:
    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[str, str]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.complete = True


def httptools_parse(data: bytes) -> Parsed | str:
    events = Events()
    parser = httptools.HttpRequestParser(events)
    end = data.find(b"\r\n\r\n", 2)
    try:
        # What follows the head is none of this comparison's business.
        parser.feed_data(data if end < 0 else data[: end + 4])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return REFUSED
    if not events.complete:
        return INCOMPLETE
    return parser.get_method().decode(), events.url.decode("latin-1"), joined(events.fields)


def our_parse(data: bytes) -> Parsed | str:
    request, code, _ = read_request([data])
    if request is None:
        return REFUSED if code else INCOMPLETE
    return request.method, request.target, joined(list(request.header.items()))


def lines(data: bytes) -> list[bytes]:
    return re.split(rb"\r?\n", data.lstrip(b"\r\n"))


def values(data: bytes, name: bytes) -> list[bytes]:
    found = []
    for line in lines(data)[1:]:
        if not line:
            break
        field, _, value = line.partition(b":")
        if field.lower() == name:
            found.append(value.strip(b" \t"))
    return found


def bad_host(data: bytes) -> bool:
    good = rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::0*([0-9]{0,5}))?"
    matches = [re.fullmatch(good, host) for host in values(data, b"host")]
    return any(match is None or int(match[1] or 0) > 65535 for match in matches)


def odd_target(data: bytes) -> bool:
    parts = lines(data)[0].split(b" ")
    return len(parts) > 1 and (not parts[1].startswith(b"/") or b"#" in parts[1] or parts[0] == b"CONNECT")


def odd_version(data: bytes) -> bool:
    return not lines(data)[0].endswith((b" HTTP/1.1", b" HTTP/1.0"))


def te_in_1_0(data: bytes) -> bool:
    return lines(data)[0].endswith(b"HTTP/1.0") and bool(values(data, b"transfer-encoding"))


def big_length(data: bytes) -> bool:
    return any(value.isdigit() and int(value) >= 2**63 for value in values(data, b"content-length"))


def repeated_length(data: bytes) -> bool:
    return len(b",".join(values(data, b"content-length")).split(b",")) > 1


Difference = tuple[str, Callable[[bytes], object]]

# What we refuse and the other accepts.
H11_LENIENT: list[Difference] = [
    ("a bare LF ends a line for h11 (9112-2.2 allows it; proxies disagree)", re.compile(rb"(?<!\r)\n").search),
    ("h11 unfolds obs-fold (9112-5.2 has a server refuse or replace it)", re.compile(rb"\n[ \t]").search),
    (
        "with a length and a coding h11 takes the coding (9112-6.3 allows it; it is how requests are smuggled)",
        lambda data: values(data, b"content-length") and values(data, b"transfer-encoding"),
    ),
    ("h11 merges equal lengths (9110-8.6 allows it)", repeated_length),
    ("h11 takes lengths of 20 digits", big_length),
    ("h11 takes a coding in HTTP/1.0 (9112-6.1: faulty framing)", te_in_1_0),
    (
        "h11 lets control characters but NUL into values (9110-5.5 forbids them)",
        re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]").search,
    ),
    ("h11 takes any value for Host (9112-3.2: an invalid one is refused)", bad_host),
    ("h11 doesn't look at the form of the target (9112-3.2)", odd_target),
    ("h11 takes any version with two digits; we speak 1.1 and 1.0", odd_version),
]
HTTPTOOLS_LENIENT: list[Difference] = [
    ("llhttp skips any number of CR and LF before the request line; we skip one CRLF", re.compile(rb"^[\r\n]").search),
    ("llhttp skips spaces between the parts of the request line (9112-3 allows one)", lambda data: b"  " in lines(data)[0]),
    ("llhttp takes lengths up to 2^64-1", big_length),
    ("llhttp takes a coding in HTTP/1.0 (9112-6.1: faulty framing)", te_in_1_0),
    (
        "llhttp leaves codings before chunked to its caller; we know none (9112-6.1: 501)",
        lambda data: re.search(rb"(?i)transfer-encoding:.*(,|\n)", data) and b"chunked" in data.lower(),
    ),
    ("llhttp knows no Host (9112-3.2: exactly one)", lambda data: len(values(data, b"host")) != 1 or bad_host(data)),
    ("llhttp takes other forms of the target with any method (9112-3.2)", odd_target),
    ("llhttp takes HTTP/0.9, HTTP/2.0 and RTSP, ICE", odd_version),
]

# What we take and the other refuses.
H11_STRICTER: list[Difference] = [
    ("h11 refuses an empty line before the request (9112-2.2 has a server ignore one)", lambda data: data.startswith(b"\r\n")),
]
HTTPTOOLS_STRICTER: list[Difference] = [
    (
        "llhttp has a list of methods; any token is one (9110-9.1), and the handler decides",
        lambda data: lines(data)[0].split(b" ")[0] not in (b"GET", b"POST", b"OPTIONS", b"HEAD", b"PUT", b"CONNECT"),
    ),
]


def check_head(data: bytes, theirs: Parsed | str, lenient: list[Difference], stricter: list[Difference]) -> str:
    """Compares; "" when they agree, else the reason why they don't."""
    ours = our_parse(data)
    if not isinstance(ours, str) and not isinstance(theirs, str):
        if ours[1] != theirs[1]:
            # Absolute form: we give the path, and the authority as Host (9112-3.2.2).
            assert re.match(r"(?i)https?://", theirs[1])
            assert theirs[1].partition("://")[2].removeprefix(ours[2]["host"]).lstrip("/") == ours[1].lstrip("/")
            return ""
        assert ours == theirs
        return ""
    if ours == theirs:
        return ""
    if ours == REFUSED:
        # Some faults we tell at a byte where the other still waits for a line's end.
        candidates = lenient
        if theirs == INCOMPLETE:
            return "told earlier"
    elif theirs == REFUSED and ours == INCOMPLETE:
        # And the other way round: llhttp tells each fault at its byte, we most of them when the head is whole.
        return "told later"
    else:
        candidates = stricter
    for reason, applies in candidates:
        if applies(data):
            return reason
    pytest.fail(f"{data!r}: we say {ours}, the other says {theirs}")


ORACLES = [
    pytest.param(h11_parse, H11_LENIENT, H11_STRICTER, id="h11"),
    pytest.param(httptools_parse, HTTPTOOLS_LENIENT, HTTPTOOLS_STRICTER, id="httptools"),
]


@pytest.mark.parametrize(("oracle", "lenient", "stricter"), ORACLES)
def test_heads(oracle: Callable[[bytes], Parsed | str], lenient: list[Difference], stricter: list[Difference]) -> None:
    """The hand-written heads; every difference in the list is met by one of them."""
    met = set()
    for _, data, _ in [*HOSTILE, *GOOD]:
        met.add(check_head(data, oracle(data), lenient, stricter))
    assert {reason for reason, _ in [*lenient, *stricter]} <= met


@pytest.mark.parametrize(("oracle", "lenient", "stricter"), ORACLES)
def test_generated_heads(
    oracle: Callable[[bytes], Parsed | str], lenient: list[Difference], stricter: list[Difference]
) -> None:
    agreed = 0

    @STEADY
    @given(request_heads())
    def run(data: bytes) -> None:
        nonlocal agreed
        agreed += not check_head(data, oracle(data), lenient, stricter)

    run()
    assert agreed > 50
