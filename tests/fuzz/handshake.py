"""The opening handshake, from the head's bytes on: what each side makes of the other's fields.

What must hold: only ProtocolError with a status for it; what is accepted is well-formed; what our server agrees to, our client
accepts; and an origin that passes is that of the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from silly._wire import handshake
from silly._wire.deflate import NAME, Deflate, Parameters, check_answer, negotiate, offer
from silly._wire.error import ProtocolError
from silly._wire.header import TOKEN, Header
from silly._wire.http1 import HeadReader, Request, ResponseHead, parse_request, parse_response
from silly._wire.limits import Limits

from .source import Source, allowed, cut

LIMITS = [Limits(), Limits(head=200, line=60, header_lines=4)]
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
OFFERED = ["chat", "superchat"]
HEAD = frozenset((400, 414, 431))
REQUEST = HEAD | {501, 505}
ORIGINS: list[handshake.Origins] = [
    None,
    ["https://example.com", "http://x:8080", "null"],
    re.compile(r"https://.*\.example"),
    False,
]
OPTIONS = [
    None,
    Deflate(),
    Deflate(server_max_window_bits=15, client_max_window_bits=15),
    Deflate(
        server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=8, client_max_window_bits=8
    ),
]
CONTROL = re.compile(rb"\r(?!\n)|(?<!\r)\n|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


def attempt(codes: frozenset[int], call: Callable[..., Any], *args: Any) -> tuple[Any, int | None]:
    """What the call gives, and None; or None, and the code of the ProtocolError that it raises."""
    try:
        return call(*args), None
    except ProtocolError as exc:
        return None, allowed(exc, codes)


def read_head(pieces: list[bytes], limits: Limits) -> tuple[bytes | None, int | None]:
    reader = HeadReader(limits)
    buf = bytearray()
    head: bytes | None = None
    for piece in pieces:
        if head is not None:
            break
        buf += piece
        head, code = attempt(HEAD, reader.next, buf)
        if code is not None:
            return None, code
    assert head is None or len(head) <= limits.head
    if head is not None and CONTROL.search(head):
        return None, 400  # the parsers say so of a head that comes whole, its reader of one in pieces
    return head, None


def server_side(request: Request, source: Source) -> None:
    header = request.header
    accept, code = attempt(
        frozenset((400, 405, 426)), handshake.check_request, request.method, request.version, header, request.body
    )
    if code is None:
        assert request.method == "GET"
        assert not request.body
        assert accept == handshake.accept_key(header["sec-websocket-key"] or "")
    origins = source.choose(ORIGINS)
    refused = attempt(frozenset((403,)), handshake.check_origin, header, origins)[1]
    origin = header["origin"]
    if origin is None or origins is False:
        assert refused is None
    elif refused is None and isinstance(origins, list):
        assert origin.lower() in (*origins, "https://example.com:443")
    elif refused is None and origins is None:
        host = (header["host"] or "").lower()
        name = origin.lower().partition("://")[2]
        assert name.split(":")[0] == host.split(":")[0] or name[:1] == host[:1] == "["
    offered, _ = attempt(frozenset((400,)), handshake.offered_subprotocols, header)
    for name in offered or []:
        assert TOKEN.fullmatch(name)
    if offered is not None:
        assert handshake.choose_subprotocol(offered, OFFERED) in (None, *OFFERED)
    check_extensions(header["sec-websocket-extensions"], source)


def check_extensions(field: str | None, source: Source) -> None:
    options = source.choose(OPTIONS)
    agreed, _ = attempt(frozenset((400,)), negotiate, field, options)
    if agreed is not None:
        assert options is not None
        parameters, answer = agreed
        check_parameters(parameters)
        assert parameters.server_max_window_bits <= options.server_max_window_bits
        # A client with that offer accepts this answer: one without demands parses it.
        said = check_answer(answer, OPTIONS[2])
        assert said == parameters or parameters.client_max_window_bits == 15
    got, _ = attempt(frozenset((101,)), check_answer, field, options)
    if got is not None:
        assert options is not None
        check_parameters(got)
        assert got.client_max_window_bits <= options.client_max_window_bits
        assert got.server_no_context_takeover or not options.server_no_context_takeover
        assert (field or "").strip(" \t,").startswith(NAME)
    if options is not None:
        assert negotiate(offer(options), options) is not None


def check_parameters(parameters: Parameters) -> None:
    assert 8 <= parameters.server_max_window_bits <= 15
    assert 8 <= parameters.client_max_window_bits <= 15


def client_side(response: ResponseHead, source: Source) -> None:
    options = source.choose(OPTIONS)
    codes = frozenset((101, response.status))
    got, code = attempt(codes, handshake.check_response, response, KEY, OFFERED, options)
    if code is None:
        assert response.status == 101
        assert response.header["sec-websocket-protocol"] in (None, *OFFERED)
        assert (got is None) == (response.header["sec-websocket-extensions"] is None)
    else:
        assert code == response.status


def run(data: bytes) -> None:
    source = Source(data)
    flags = source.byte()
    limits = source.choose(LIMITS)
    sizes = source.sizes()
    choices = Source(source.take(2))
    stream = source.rest()
    if flags & 2:
        check_extensions(stream.decode("latin-1"), choices)
        field = stream.decode("latin-1")
        attempt(frozenset((400,)), handshake.offered_subprotocols, Header([("Sec-WebSocket-Protocol", field)]))
        return
    head, code = read_head([stream], limits)
    assert read_head(cut(stream, sizes), limits) == (head, code), "the segmentation changes nothing"
    if head is None:
        return
    if flags & 1:
        response, _ = attempt(HEAD | {502}, parse_response, head, limits)
        if response is not None:
            client_side(response, choices)
    else:
        request, _ = attempt(REQUEST, parse_request, head, limits)
        if request is not None:
            server_side(request, choices)


LINES = ["Host: example.com", "Upgrade: websocket", "Connection: keep-alive, Upgrade", f"Sec-WebSocket-Key: {KEY}"]
LINES += ["Sec-WebSocket-Version: 13", "Origin: https://example.com", "Sec-WebSocket-Protocol: chat, superchat"]
LINES += [f"Sec-WebSocket-Extensions: {NAME}; client_max_window_bits"]
ANSWER = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {handshake.accept_key(KEY)}"]
ANSWER += ["Sec-WebSocket-Protocol: chat", f"Sec-WebSocket-Extensions: {NAME}; server_max_window_bits=12"]
FIELDS = ["", NAME, f"{NAME}; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10", ",, a;b=c"]
FIELDS += [f'foo; bar="b\\az", {NAME}; client_max_window_bits', f"{NAME}; client_max_window_bits=16, {NAME}", "chat ,superchat"]


def seed(flags: int, choices: bytes, lines: list[str], limits: int = 0) -> bytes:
    return bytes((flags, limits, 2, 7, 3)) + choices + "\r\n".join([*lines, "", ""]).encode("latin-1")


SEEDS = [seed(0, bytes((a, b)), ["GET / HTTP/1.1", *LINES]) for a in range(4) for b in range(4)]
SEEDS += [
    seed(1, bytes((a, 0)), ["HTTP/1.1 101 Switching Protocols", *ANSWER[:count]]) for a in range(4) for count in (3, 4, 5)
]
SEEDS += [seed(0, b"\0\0", ["GET / HTTP/1.1", *LINES[:5]], 1), seed(0, b"\0\0", ["POST http://x/ HTTP/1.0", *LINES])]
SEEDS += [seed(2, bytes((a, 0)), [field])[:-4] for a in range(4) for field in FIELDS]
TOKENS = [line.encode() + b"\r\n" for line in LINES + ANSWER] + [field.encode() for field in FIELDS]
TOKENS += [
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b":",
    b";",
    b",",
    b"=",
    b'"',
    b"\\",
    b" ",
    b"\t",
    b"\0",
    b"\xe9",
    b"http://",
    b"null",
]
TOKENS += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"8",
    b"15",
    b"16",
    b"HTTP/1.0",
    b"; server_max_window_bits",
]
TOKENS += [b"; client_max_window_bits", b"; server_no_context_takeover", b"; client_no_context_takeover", b"[::1]:80", b":443"]
TOKENS += [b"example.com:\r\n"]
