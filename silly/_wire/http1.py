"""The heads of HTTP/1.1 messages (RFC 9112) and the framing that they say, in both
directions; ``chunked.py`` has the bodies in chunks. Pure: bytes in, values out.

Strict where leniency is attack surface: two parsers that disagree about where a message
ends let requests be smuggled. So this accepts only what RFC 9112 generates: CRLF alone
ends a line, no line folding, no space before the colon, one Host, a length or a
transfer coding but never both, digits only in lengths. Everything else is a
``ProtocolError`` whose code is the HTTP status to answer. A client also takes folded
lines (section 5.2), since servers send them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from .._shown import shown
from .answer import date_line
from .error import ProtocolError
from .header import TOKEN, Header, Outgoing, compose, tokens
from .limits import Limits
from .lines import take
from .numbers import MOST

CHUNKED = -1
"""The body length that stands for the chunked transfer coding."""
UNTIL_CLOSE = -2
"""The body length of a response that ends with the connection."""

# Deleting every allowed byte from a head must leave only the line ends: this one pass
# finds bare CR, bare LF, NUL and all other control characters.
_ALLOWED = bytes(c for c in range(256) if c == 9 or (c >= 0x20 and c != 0x7F))
# Printable, and no "#": a fragment is never sent (section 3.2), and would hide the rest
# of a path from the next parser.
_TARGET = re.compile(r"[!\"$-~]+")
_LENGTH = re.compile(r"[0-9]{1,19}")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)([^#]*)", re.IGNORECASE)

_names: dict[str, str] = {}
"""The lower case of field names that were seen and found valid. Bounded, since peers
choose the names."""
_NAMES_KEPT = 512


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
"""Common methods, which need no further check; any other token is a method too."""
_get: Callable[[Header, str], str | None] = dict.get
"""Skips ``Header``'s own ``get``, for names known to be in lower case."""


class Request(NamedTuple):
    """The head of a request. ``body`` is its length in bytes, or CHUNKED.
    ``keepalive``: whether the peer may go on sending. ``last``: whether the connection
    serves no request after this one; see ``parse_request``.
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    header: Header
    body: int
    keepalive: bool
    last: bool


class ResponseHead(NamedTuple):
    """The head of a response. ``version`` is ``"HTTP/1.1"`` or ``"HTTP/1.0"``."""

    version: str
    status: int
    reason: str
    header: Header


_CONTROL = "control character, bare CR or bare LF in the head"


def bad(what: str, given: bytes | str) -> ProtocolError:
    """Returns the error for a part of a message, which only our log quotes."""
    return ProtocolError(f"bad {what} {given[:80]!r}", 400, f"bad {what}")


def check_begun(buf: bytearray, searched: int, end: int) -> None:
    """Checks what has come of a head that is not complete: ``buf[searched:end]``.
    Raises ProtocolError at the byte that proves a bare CR or LF, or another control
    character. Else a peer that ends lines by LF alone would wait for the time-out.

    A CR at the end may be half of a line's end.
    """
    if searched > 0 and buf[searched - 1] == 13:
        searched -= 1  # the other half of a line's end
    part = buf[searched:end]
    due = b"\r\n" * part.count(b"\r\n")
    if part.translate(None, _ALLOWED) != (due + b"\r" if part.endswith(b"\r") else due):
        raise ProtocolError(_CONTROL, 400)


def _whole_head(buf: bytearray, longest: int) -> bytes | None:
    """Takes the head off the front of ``buf``, if it has come whole, is not longer than
    ``longest`` and begins as one does. So it is with nearly every head."""
    end = buf.find(b"\r\n\r\n")
    if not 0 < end <= longest or not 0x21 <= buf[0] < 0x7F:
        return None
    return take(buf, end + 4)[:-4]


class HeadReader:
    """Finds the end of a head in a growing buffer, in time linear in its length,
    however it arrives."""

    __slots__ = ("_limits", "_searched", "_short", "_skipped")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._short = min(limits.head, limits.line)
        """A head of at most this length is within all limits on sizes."""
        self._searched = 0
        self._skipped = False
        """Whether the one empty line that may precede the head has been taken."""

    def next(self, buf: bytearray) -> bytes | None:
        """Takes the head off the front of ``buf``, without the empty line that ends it;
        None while it is incomplete."""
        if not self._searched:
            head = _whole_head(buf, self._short)
            if head is not None:
                self._skipped = False
                return head
            # RFC 9112, section 2.2: an empty line before the request is ignored, but
            # only one.
            if not self._skipped and buf.startswith(b"\r\n"):
                del buf[:2]
                self._skipped = True
            if not buf or (buf == b"\r" and not self._skipped):
                return None
            if not 0x21 <= buf[0] < 0x7F:
                # This isn't HTTP, but a TLS hello, a PROXY header or a stray line end.
                raise ProtocolError(f"a message can't start with byte 0x{buf[0]:02x}", 400)
        # The verdict is the same whether the head comes whole or in pieces: a piece is
        # too long only if no line end that may follow could bring it within the limit,
        # the bytes up to a limit are checked before that limit, and the limit of the
        # first line before that of the head.
        limit = self._limits.line
        if self._searched < limit <= len(buf) - 2 and buf.find(b"\r\n", 0, limit + 2) < 0:
            check_begun(buf, self._searched, limit + 2)
            raise ProtocolError(f"first line longer than the limit 'line' of {limit} bytes", 414)
        end = buf.find(b"\r\n\r\n", self._searched)
        limit = self._limits.head
        if (end if end >= 0 else len(buf) - 3) > limit:
            check_begun(buf, self._searched, limit + 4)
            raise ProtocolError(f"head longer than the limit 'head' of {limit} bytes", 431)
        if end < 0:
            check_begun(buf, self._searched, len(buf))
            self._searched = max(1, len(buf) - 3)
            return None
        self._searched = 0
        self._skipped = False
        return take(buf, end + 4)[:-4]


def _lines(head: bytes, limits: Limits) -> list[str]:
    lines = head.decode("latin-1").split("\r\n")
    if head.translate(None, _ALLOWED) != b"\r\n" * (len(lines) - 1):
        raise ProtocolError(_CONTROL, 400)
    if len(lines) - 1 > limits.header_lines:
        raise ProtocolError(f"more header lines than the limit 'header_lines' of {limits.header_lines}", 431)
    if len(head) > limits.line and max(map(len, lines)) > limits.line:
        code = 414 if len(lines[0]) > limits.line else 431
        raise ProtocolError(f"line longer than the limit 'line' of {limits.line} bytes", code)
    return lines


def _fields(lines: list[str]) -> Header:
    """The header fields of ``lines``, the first line left out."""
    fields: dict[str, str] = {}
    again: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        lower = _names.get(name)
        if lower is None:
            # Catches line folding and space before the colon too: neither makes a
            # token.
            if not colon or not TOKEN.fullmatch(name):
                raise _bad_line(line)
            lower = name.lower()
            if len(name) <= 40:
                if len(_names) >= _NAMES_KEPT:
                    _names.clear()  # otherwise one peer could fill it for good with names that nobody else sends
                _names[name] = lower
        elif not colon:
            raise _bad_line(line)
        if lower in fields:
            again.append((lower, value.strip(" \t")))
        else:
            fields[lower] = value.strip(" \t")
    header = Header.__new__(Header)  # its __init__ would cost as much as a field
    header.update(fields)
    for name, value in again:
        header.add(name, value)
    return header


def _bad_line(line: str) -> ProtocolError:
    """Returns the error for a header line without a name or a colon. It quotes no more
    than where the name ends: behind that may be a password."""
    name = re.split(r"(?<=[: \t])", line, maxsplit=1)[0]
    return ProtocolError(f"bad header line that begins {name[:80]!r}", 400, "bad header line")


def parse_request(head: bytes, limits: Limits) -> Request:
    """Parses and checks a request's head, with its target, its Host and its framing.

    What follows a CONNECT may be meant for the tunnel, and what follows a request for a
    WebSocket may be frames, though the peer should wait for the answer. So each is the
    last request of its connection, whatever the answer is: else a peer could hide a
    request from a proxy that looks no further after such a request. Some proxies only
    search Upgrade for "websocket", so only that word counts here. Any other protocol,
    such as "h2c", is ignored (RFC 9110, section 7.8): curl offers that one, and goes on
    with HTTP/1.1.

    ``take_request`` in C takes plain heads without asking here: it has the same rules.
    """
    lines = _lines(head, limits)
    parts = lines[0].split(" ")
    if len(parts) != 3:
        raise bad("request line", lines[0])
    method, target, version = parts
    if (method not in _METHODS and not TOKEN.fullmatch(method)) or not _TARGET.fullmatch(target):
        raise bad("request line", lines[0])
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        if _VERSION.fullmatch(version):
            raise ProtocolError(f"version {version} is not supported", 505)
        raise bad("request line", lines[0])
    header = _fields(lines)
    minor = version == "HTTP/1.1"
    if minor:
        version = "HTTP/1.1"  # one object for all requests: a WebSocket keeps its request for hours
    host = _get(header, "host")
    if host is not None:
        check_host(host)
    elif minor:
        raise ProtocolError("no Host", 400)
    tunnel = False
    if target[0] != "/" or method == "CONNECT":
        target = _other_target(method, target, header)
        tunnel = method == "CONNECT"
    path, _, query = target.partition("?")
    upgrade = _get(header, "upgrade")
    if upgrade is not None:
        # Clients send "WebSocket" too, and handlers compare with "websocket".
        upgrade = upgrade.lower()
        header["upgrade"] = "websocket" if upgrade == "websocket" else upgrade
        tunnel = tunnel or "websocket" in upgrade
    connection = _get(header, "connection")
    if connection is None:
        keepalive = minor
    else:
        options = tokens(connection)
        keepalive = "close" not in options and (minor or "keep-alive" in options)
    framed = _get(header, "content-length") is not None or _get(header, "transfer-encoding") is not None
    body = body_length(header, minor) if framed else 0
    # Without NamedTuple's constructor: it is a Python function that costs as much as
    # two header fields.
    return tuple.__new__(Request, (method, target, path, query, version, header, body, keepalive, tunnel or not keepalive))


def take_request(buf: bytearray, limits: Limits, /) -> Request | None:
    """Takes a request's head off the front of ``buf``, if it is there as a whole, and
    returns it parsed. None, with ``buf`` as it is, where ``HeadReader`` has to look:
    the head isn't complete, is long, or begins oddly. Raises ProtocolError.

    ``_head_speedups.c`` has it in C, which leaves every head that is in any way unusual
    or wrong to ``HeadReader`` and ``parse_request``.
    """
    head = _whole_head(buf, min(limits.head, limits.line))
    return None if head is None else parse_request(head, limits)


@lru_cache(256)
def check_host(host: str) -> str | None:
    """Checks that Host is a host and port as in RFC 3986; returns the port, or None.
    The port may be empty, as in ``example.com:``, and is None then (section 3.2.3).

    Two Host fields arrive joined by a comma and a space, and fail too. Raises
    ProtocolError.
    """
    match = _HOST.fullmatch(host)
    if match is None or int(match.group(2) or 0) > 65535:
        raise bad("Host", host)
    try:
        if match.group(1) is not None:
            IPv6Address(match.group(1))
    except AddressValueError:
        raise bad("Host", host) from None
    return match.group(2) or None


def _other_target(method: str, target: str, header: Header) -> str:
    """A request target that isn't a path (RFC 9112, section 3.2)."""
    if target == "*" and method == "OPTIONS":
        return target
    if method == "CONNECT":
        # Section 3.2.3: host and port, and nothing else. RFC 9110, section 9.3.6: an
        # empty port is refused.
        if check_host(target) is None:
            raise ProtocolError(f"CONNECT without a port: {target[:80]!r}", 400, "CONNECT without a port")
        # RFC 9110, section 9.3.6: it has no content. Other parsers take what follows as
        # the tunnel's, whatever length is announced.
        if _get(header, "transfer-encoding") is not None or _get(header, "content-length") not in (None, "0"):
            raise ProtocolError("CONNECT with a body", 400)
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise bad("request target", target)
    authority, rest = match.groups()
    check_host(authority)
    # Section 3.2.2: the target's authority counts, not Host.
    header["host"] = authority
    return rest if rest.startswith("/") else "/" + rest


def body_length(header: Header, http11: bool) -> int:
    """How long a request's body is: bytes, or CHUNKED (RFC 9112, section 6.3)."""
    length = _get(header, "content-length")
    coding = _get(header, "transfer-encoding")
    if coding is not None:
        if length is not None:
            raise ProtocolError("both Content-Length and Transfer-Encoding", 400)
        if not http11:
            raise ProtocolError("Transfer-Encoding in HTTP/1.0", 400)
        if coding.lower() == "chunked":
            return CHUNKED
        codings = tokens(coding)
        if not codings or codings[-1] != "chunked" or codings.count("chunked") > 1:
            wrong = "the last transfer coding is not chunked, or it comes twice"
            raise ProtocolError(f"{wrong}: {coding[:80]!r}", 400, wrong)
        raise ProtocolError(f"transfer coding {coding[:80]!r} is not supported", 501, "this transfer coding is not supported")
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length) or int(length) > MOST:
        raise bad("Content-Length", length)
    return int(length)


_NEVER_FOLDED = frozenset(("connection", "content-length", "transfer-encoding", "upgrade"))
"""Fields that say where a message or a protocol ends, as do all of ``sec-websocket-``.
Clients and proxies differ in what they make of a folded one: some see no chunked body
where others do. No server has a reason to fold so short a value."""


def _unfolded(lines: list[str], limits: Limits) -> list[str]:
    """``lines`` of a response with each fold replaced by a space, as a user agent must
    (RFC 9112, section 5.2). A fold of the first line stays, and is refused later.

    Raises ProtocolError for a field that may not be folded, and for one that is longer
    than the limit ``line`` with its folds.
    """
    whole = [lines[0]]
    at = 1
    while at < len(lines):
        end = at + 1
        while end < len(lines) and lines[end].startswith((" ", "\t")):
            end += 1
        first = lines[at]
        if end - at > 1:
            if sum(map(len, lines[at:end])) + 2 * (end - at - 1) > limits.line:
                raise ProtocolError(f"line longer than the limit 'line' of {limits.line} bytes", 431)
            name = first.partition(":")[0].lower()
            if name in _NEVER_FOLDED or name.startswith("sec-websocket-"):
                raise ProtocolError(f"the field {name[:80]!r} is folded", 400, "a field that may not be folded")
            first = " ".join([first.rstrip(" \t"), *(line.strip(" \t") for line in lines[at + 1 : end])])
        whole.append(first)
        at = end
    return whole


def parse_response(head: bytes, limits: Limits) -> ResponseHead:
    """Parses a response's head. The codes of its errors are never sent: a client can't
    answer."""
    lines = _lines(head, limits)
    if b"\r\n " in head or b"\r\n\t" in head:
        lines = _unfolded(lines, limits)
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise ProtocolError(f"bad status line {lines[0][:80]!r}", 502)
    minor, status, reason = match.groups()
    return ResponseHead(f"HTTP/1.{minor}", int(status), reason or "", _fields(lines))


def parse_trailer(section: bytes, limits: Limits, folds: bool) -> Header:
    """Parses the fields behind a chunked body; ``section`` is without the empty line
    that ends them. ``folds``: whether they may be folded, as those of a response may.
    """
    lines = _lines(b"\r\n" + section, limits)
    return _fields(_unfolded(lines, limits) if folds else lines)


INTERIM = 16
"""The most interim responses (1xx) before the final one (RFC 9110, section 15.2)."""


class ResponseReader:
    """Reads the head of the response to one request, and skips the interim ones.

    ``upgrade``: whether the request asked for another protocol; then 101 is final, and
    otherwise an error.
    """

    __slots__ = ("_heads", "_limits", "_upgrade", "interim")

    def __init__(self, limits: Limits, upgrade: bool = False) -> None:
        self._limits = limits
        self._heads = HeadReader(limits)
        self._upgrade = upgrade
        self.interim = 0
        """How many interim responses have come."""

    def next(self, buf: bytearray, proceed: bool = False) -> ResponseHead | None:
        """Takes heads off the front of ``buf``, up to the final response's, and returns
        that; None while it is incomplete. ``proceed``: returns a 100 too.

        Raises ProtocolError for a bad head, and for more than ``INTERIM`` interim ones.
        """
        while (head := self._heads.next(buf)) is not None:
            response = parse_response(head, self._limits)
            if response.status >= 200:
                return response
            if response.status == 101:
                if self._upgrade:
                    return response
                raise ProtocolError("the server switched to another protocol, which nobody asked for", 502)
            self.interim += 1
            if self.interim > INTERIM:
                raise ProtocolError(f"more than {INTERIM} interim responses", 502)
            if proceed and response.status == 100:
                return response
        return None


def response_body_length(response: ResponseHead, method: str) -> int:
    """How long a response's body is: bytes, CHUNKED or UNTIL_CLOSE (RFC 9112, section
    6.3)."""
    if method == "HEAD" or response.status < 200 or response.status in (204, 304):
        return 0
    if method == "CONNECT" and response.status < 300:
        return 0  # what follows is the tunnel
    header = response.header
    if header["content-length"] is None and header["transfer-encoding"] is None:
        return UNTIL_CLOSE
    return body_length(header, response.version == "HTTP/1.1")


def field_lines(fields: Outgoing) -> tuple[str, int | None, list[str]]:
    """Header fields to send, as lines, without the fields that frame the message.

    Also returns the body's length that those give (CHUNKED; None if they don't say),
    and the options of Connection in lower case. Raises ValueError for framing that
    contradicts itself.
    """
    text = ""
    length: int | None = None
    options: list[str] = []
    for name, value in compose(fields):
        if name not in _FRAMING:
            text = f"{text}{name}: {value}\r\n"
        elif name == "connection":
            options += tokens(value)
        elif name == "content-length":
            if not value.isascii() or not value.isdigit() or (length is not None and length != int(value)):
                raise ValueError(f"bad or ambiguous content-length {shown(value)}")
            length = int(value)
        else:
            if value.lower() != "chunked" or length is not None:
                raise ValueError("transfer-encoding must be 'chunked', and goes without content-length")
            length = CHUNKED
    return text, length, options


_FRAMING = frozenset(("connection", "content-length", "transfer-encoding"))


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
FINAL_LINES = {status: line.encode("ascii") for status, line in _STATUS_LINES.items() if status >= 200}
"""The first line of a response that is no interim one, by its status."""


def status_line(status: int) -> str:
    """A response's first line. Raises ValueError unless ``status`` is 100 to 999."""
    if type(status) is int and (line := _STATUS_LINES.get(status)):
        return line
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 999:
        raise ValueError(f"an HTTP status is an int from 100 to 999, not {shown(status)}")
    return _STATUS_LINES.get(int(status)) or f"HTTP/1.1 {int(status)} \r\n"


def response_lines(status: int, fields: Outgoing) -> tuple[bytes, int | None, bool]:
    """The first line of a response, the lines of its ``fields`` and its Date; without
    the lines about framing and the end of the connection.

    Also returns the body's length that the fields name, as ``field_lines`` does, and
    whether they end the connection. Raises ValueError or TypeError for a status that is
    not final, and for fields that may not be sent.
    """
    line = status_line(status)
    if status < 200:
        raise ValueError(f"{status} is not a final status")
    text, length, options = field_lines(fields)
    others = ", ".join([option for option in options if option not in ("close", "keep-alive")])
    if others:
        text += f"connection: {others}\r\n"
    dated = text.startswith("date: ") or "\r\ndate: " in text
    return f"{line}{text}".encode("latin-1") + (b"" if dated else date_line()), length, "close" in options


def error_response(error: ProtocolError, head_only: bool = False) -> bytes:
    """The whole answer to a request that is refused; the connection closes after it.

    ``head_only``: without the body, as the answer to a HEAD.
    """
    body = error.answer.encode("ascii", "backslashreplace") + b"\n"
    head = f"{status_line(error.code)}content-type: text/plain\r\ncontent-length: {len(body)}\r\n".encode("ascii")
    return b"%b%bconnection: close\r\n\r\n%b" % (head, date_line(), b"" if head_only else body)


def request_line(method: str, target: str) -> str:
    """The first line of a request. Raises ValueError for a method or target that may
    not be sent."""
    if not TOKEN.fullmatch(method):
        raise ValueError(f"bad method {shown(method)}")
    if not _TARGET.fullmatch(target):
        raise ValueError(f"bad request target {shown(target)}")
    return f"{method} {target} HTTP/1.1\r\n"


def request_head(method: str, target: str, fields: Outgoing) -> bytes:
    """A request's head. Raises ValueError for a part of it that may not be sent."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in compose(fields)])
    return f"{request_line(method, target)}{lines}\r\n".encode("latin-1")
