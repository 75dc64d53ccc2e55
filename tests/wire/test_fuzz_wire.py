"""The fuzz rule: any bytes either parse or raise ProtocolError, nothing else, and their segmentation changes nothing.

And the round trips: what we build, we parse back.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire import accelerated, handshake, ws
from silly._wire.header import Header
from silly._wire.http1 import (
    UNTIL_CLOSE,
    HeadReader,
    ResponseHead,
    parse_request,
    parse_response,
    request_head,
    response_body_length,
)
from silly._wire.limits import DEFAULT, Limits

from .strategies import STEADY, chunked_bodies, cuts, damaged, frame_streams, request_heads, response_heads
from .support import (
    BINARY,
    CONT,
    FIN,
    PING,
    TEXT,
    attempt,
    bytewise,
    naive_mask,
    read_chunked,
    read_frames,
    read_head,
    read_request,
)

SMALL = Limits(message=50, fragments=2, head=100, line=40, header_lines=3)
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize("server", [True, False], ids=["server", "client"])
def test_frames(server: bool) -> None:
    verdicts = set()

    @STEADY
    @given(st.data(), st.one_of(st.binary(max_size=40), frame_streams(server)), st.sampled_from([DEFAULT, SMALL]))
    def run(data: Any, stream: bytes, limits: Limits) -> None:
        whole = read_frames([stream], server, limits)
        for pieces in (bytewise(stream), data.draw(cuts(stream))):
            got = read_frames(pieces, server, limits)
            assert (got.messages, got.code) == (whole.messages, whole.code)
        # A patient reader may still wait for the rest of a header that is proven bad; else it says the same.
        patient = read_frames(bytewise(stream), server, limits, patient=True)
        assert patient.messages == whole.messages
        assert patient.code in (whole.code, None)
        verdicts.add(whole.code)

    run()
    assert verdicts >= {None, 1002, 1007}, "the generator reaches each kind of answer"


def test_request_heads() -> None:
    verdicts = set()

    @STEADY
    @given(st.data(), st.one_of(st.binary(max_size=60), request_heads()), st.sampled_from([DEFAULT, SMALL]))
    def run(data: Any, stream: bytes, limits: Limits) -> None:
        whole = read_request([stream], limits)
        for pieces in (bytewise(stream), data.draw(cuts(stream))):
            got = read_request(pieces, limits)
            assert got[:2] == whole[:2]
            assert got[2] == whole[2] or got[0] is None
        request, code, _ = whole
        verdicts.add(code)
        if request is not None:
            upgrade = (request.method, request.version, request.header, request.body)
            accept, code = attempt(lambda: handshake.check_request(*upgrade))
            assert len(accept) == 28 if code is None else 400 <= code < 500
            assert attempt(lambda: handshake.check_origin(request.header)) in ((None, None), (None, 403))

    run()
    assert verdicts >= {None, 400}


def test_heads_cut_off() -> None:
    """A reader that has been fed a good head's beginning has taken nothing of it."""
    stream = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    for size in range(len(stream)):
        buf = bytearray(stream[:size])
        assert HeadReader(DEFAULT).next(buf) is None
        assert buf == stream[:size]


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Accept", "Origin", "Host"]
        ),
        st.one_of(
            st.sampled_from(["websocket", "Upgrade", KEY, "13", handshake.accept_key(KEY), "http://x", "x"]),
            st.text(st.characters(max_codepoint=255), max_size=30),
        ),
    ),
    max_size=8,
)


@STEADY
@given(HEADERS, st.sampled_from(["GET", "POST"]), st.sampled_from(["HTTP/1.1", "HTTP/1.0"]), st.integers(-1, 1))
def test_handshake_checks(fields: list[tuple[str, str]], method: str, version: str, body: int) -> None:
    header = Header(fields)
    accept, code = attempt(lambda: handshake.check_request(method, version, header, body))
    assert accept == handshake.accept_key(KEY) if code is None else 400 <= code < 500
    assert attempt(lambda: handshake.check_origin(header)) in ((None, None), (None, 403))


@STEADY
@given(st.data(), st.one_of(st.binary(max_size=60), response_heads()))
def test_responses(data: Any, stream: bytes) -> None:
    def read(pieces: list[bytes]) -> tuple[ResponseHead | None, int | None]:
        got = read_head(pieces)
        return (None, got.code) if got.head is None else attempt(lambda: parse_response(got.head or b"", DEFAULT))

    response, code = read([stream])
    assert read(data.draw(cuts(stream))) == (response, code)
    if response is None:
        assert code in (None, 400, 414, 431, 502)
        return
    assert 100 <= response.status <= 999
    length, code = attempt(lambda: response_body_length(response, "GET"))
    assert length >= UNTIL_CLOSE if code is None else code in (400, 501)
    assert attempt(lambda: handshake.check_response(response, KEY, []))[1] in (None, response.status)


def test_chunked() -> None:
    verdicts = set()

    @STEADY
    @given(st.data(), st.one_of(st.binary(max_size=40), chunked_bodies()), st.integers(1, 40))
    def run(data: Any, stream: bytes, most: int) -> None:
        whole = read_chunked([stream])
        for pieces in (bytewise(stream), data.draw(cuts(stream))):
            for size in (most, 2**20):
                got = read_chunked(pieces, most=size)
                assert (got.done, got.code, got.trailer) == (whole.done, whole.code, whole.trailer)
                if whole.code is None:
                    assert got.body == whole.body
                else:
                    # Data that came before the fault may have been given already.
                    assert got.body.startswith(whole.body)
                if whole.done:
                    assert got.rest == whole.rest
        verdicts.add((whole.done, whole.code))

    run()
    assert verdicts >= {(True, None), (False, None), (False, 400)}


# ---- round trips ------------------------------------------------------------------------------------------------------

PAYLOADS = st.one_of(st.binary(max_size=300), st.builds(lambda n: b"\xa5" * n, st.integers(65530, 65540)))


@STEADY
@given(
    st.data(),
    st.booleans(),
    st.one_of(PAYLOADS, st.text(max_size=100)),
    st.lists(st.integers(0, 70_000), max_size=5),
    st.lists(st.binary(max_size=125), max_size=3),
    st.binary(min_size=4, max_size=4),
)
def test_frames_we_build_are_read_back(
    data: Any, server: bool, value: bytes | str, fragments: list[int], pings: list[bytes], key: bytes
) -> None:
    """Any payload, in any fragments, with control frames anywhere between them."""

    def build(first: int, payload: bytes) -> bytes:
        return ws.masked_frame(first, payload, key) if server else ws.frame(first, payload)

    opcode = TEXT if isinstance(value, str) else BINARY
    payload = value.encode() if isinstance(value, str) else value
    at = sorted(min(i, len(payload)) for i in fragments)
    parts = [payload[i:j] for i, j in zip([0, *at], [*at, len(payload)], strict=True)]
    frames = []
    for i, part in enumerate(parts):
        first = (CONT if i else opcode) | (FIN if i == len(parts) - 1 else 0)
        frames.append(build(first, part))
    for ping in pings:
        frames.insert(data.draw(st.integers(0, len(frames))), build(FIN | PING, ping))
    got = read_frames(data.draw(cuts(b"".join(frames))), server)
    assert (got.code, got.rest) == (None, b"")
    assert [message for message in got.messages if message[0] != PING] == [(opcode, value)]
    assert sorted(message[1] for message in got.messages if message[0] == PING) == sorted(pings)


@STEADY
@given(st.binary(max_size=1200), st.binary(min_size=4, max_size=4))
def test_masking_is_its_own_inverse(payload: bytes, key: bytes) -> None:
    masked = accelerated.apply_mask(payload, key)
    assert masked == naive_mask(payload, key)
    assert accelerated.apply_mask(masked, key) == payload


@STEADY
@given(st.sampled_from([1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999]), st.text(max_size=200))
def test_close_payloads_are_read_back(code: int, reason: str) -> None:
    payload = ws.close_payload(code, reason)
    assert len(payload) <= 125
    got_code, got_reason = ws.parse_close(payload)
    assert got_code == code
    assert reason.startswith(got_reason)
    assert len(reason.encode()) <= 123 or len(got_reason.encode()) >= 120
    assert read_frames([ws.frame(FIN | ws.CLOSE, payload)], False).messages == [(ws.CLOSE, payload)]


TOKENS = st.text(st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))


@STEADY
@given(
    st.data(),
    TOKENS.filter(lambda method: method != "CONNECT"),
    st.lists(st.tuples(TOKENS.map(lambda name: "x-" + name), st.one_of(VALUES, st.integers(), st.lists(VALUES, max_size=3)))),
)
def test_heads_we_build_are_read_back(data: Any, method: str, fields: list[tuple[str, Any]]) -> None:
    built = request_head(method, "/a?b", [("host", "x"), *fields])
    request, code, rest = read_request(data.draw(cuts(built)))
    assert request is not None
    assert (request.method, request.target, code, rest) == (method, "/a?b", None, b"")
    due: dict[str, list[str]] = {"host": ["x"]}
    for name, value in fields:
        values = value if isinstance(value, list) else [value]
        for each in values:
            due.setdefault(name.lower(), []).append(str(each).strip(" \t"))
    assert {name: request.header.getall(name) for name in request.header} == due


@STEADY
@given(damaged(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"))
def test_parsed_values_have_no_control_characters(stream: bytes) -> None:
    got = read_head([stream])
    if got.head is None:
        assert got.code in (None, 400)
        return
    request, code = attempt(lambda: parse_request(got.head or b"", DEFAULT))
    if request is None:
        assert code in (400, 501, 505)
        return
    text = "".join([request.method, request.target, request.version, *request.header, *request.header.values()])
    assert not [c for c in text if (c < " " and c != "\t") or c == "\x7f"]
