"""The limits that protect a program, in one object, each with its reason. All are on by
default.

    http.listen(addr=":8080", handler=handler, limits=silly.Limits(message=16 * 2**20))
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .numbers import MOST, MOST_MS, check_int

_MAY_BE_ZERO = frozenset(("ping_interval", "message_rate", "body_rate", "write_rate"))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Limits:
    """Bounds on what a peer may send and how long it may take; each has a default.

        server, err = http.listen(
            addr="127.0.0.1:8080",
            handler=handler,
            limits=silly.Limits(message=16 * 2**20),
        )

    Sizes are in bytes, times in milliseconds. A ``Limits`` is immutable;
    ``dataclasses.replace`` makes a changed copy. Raises ValueError for a value that
    isn't a positive int, for a size or count above 2**63 - 1, and for a time of more
    than 100 years; 0 is allowed where it has a meaning of its own, given below.

    Messages, requests and responses:

    ``message = 2**20``
        The longest WebSocket message. 1 MiB is the default of ``websockets``. A longer
        one: close 1009.
    ``fragments = 0``
        The most fragments of a WebSocket message, empty ones included; 0 means
        max(1024, message / 256). More: close 1008.
    ``message_rate = 240``
        Bytes a second that an unfinished WebSocket message must bring: so many times 60
        in the last 60 s. It is looked at every 10 s. Only its payload counts, as sent.
        0 for any pace. A slower one: close 1008.
    ``head = 64 * 1024``
        The longest head of a request or response. nginx takes 32 KiB, Node 16, Tomcat
        8. A longer one: 431.
    ``header_lines = 128``
        The most header lines of a head. Apache takes 100. More: 431.
    ``line = 8 * 1024``
        The longest request line or header line. nginx and Apache take 8 KiB. A longer
        one: 414 for a request line, 431 for a header line.
    ``head_timeout = 10_000``
        The time for a whole request head, from its first byte. After it: 408.
    ``idle_timeout = 75_000``
        The time between two requests of a connection, as nginx's ``keepalive_timeout``.
        After it the connection is closed.
    ``body_timeout = 30_000``
        The longest time without a byte of a body. After it the read fails and the
        connection is closed (a server answers 408).
    ``body_rate = 240``
        Bytes a second that a body must bring: so many times 60 in the last 60 s (twice
        ``body_timeout``) in which a task waited for it. It is looked at every 10 s.
        Framing counts. 0 for any pace. It holds for request bodies, and for a
        response's while ``readall`` gathers it. Kestrel asks for as much. A slower one:
        408.
    ``body = 16 * 2**20``
        The longest body that ``readall`` returns, decoded. A longer one: an error; a
        server answers 413.
    ``handshake_timeout = 10_000``
        The time for a TLS handshake, and for a WebSocket client's. After it: an error.
    ``close_timeout = 10_000``
        The time for the peer's part of the WebSocket closing handshake. After it the
        connection is cut off.
    ``control_frames = 100``
        The most WebSocket control frames in a row while the peer takes no output. More:
        close 1008.
    ``ping_interval = 20_000``
        The time between two keepalive pings of a WebSocket; 0 for no keepalive. 20 s is
        the default of ``websockets``.
    ``pong_timeout = 20_000``
        The time until the peer sends any byte after a keepalive ping. After it: close
        1011. While the ping waits behind output, ``write_timeout`` and ``write_rate``
        apply.

    Connections:

    ``receive_mark = 64 * 1024``
        Unread bytes of a connection at which we stop receiving, so that TCP makes the
        peer wait. Of a socket of ``udp``, with 256 for each datagram; the kernel then
        drops what its own buffer doesn't hold.
    ``delimited = 2**20``
        The longest piece, delimiter included, that ``conn.read`` takes up to a
        delimiter. What comes is kept until the delimiter is found, so this is memory
        that a peer can take. A longer one: ``errno.MSGSIZE``, and nothing is lost.
    ``unsent = 2**20``
        Unsent bytes of a connection above which a writer waits, until a quarter of this
        is left.
    ``write_timeout = 30_000``
        The longest time without progress in sending: the peer acknowledges nothing.
        After it the connection is reset. A peer that takes large steps has longer
        between them, as long as 5 KB/s need for what it took, at most 10 times this.
    ``write_rate = 240``
        Bytes a second that the peer must take while output waits for it, over twice
        ``write_timeout``; 0 for any pace. As much as ``body_rate``. A slower one: the
        connection is reset.
    ``linger = 10_000``
        The time that a closed connection has to deliver what was written. After it the
        connection is cut off.
    ``connections = 0``
        The most connections of a listener at a time; 0 for any number. One more: 503;
        with TLS it is closed before the handshake.
    ``address_connections = 0``
        The same for the connections from one source address. Behind proxies
        (``trusted`` of ``http.listen``) clients count, by their connections or by their
        requests.
    """

    message: int = 2**20
    fragments: int = 0
    message_rate: int = 240
    head: int = 64 * 1024
    header_lines: int = 128
    line: int = 8 * 1024
    head_timeout: int = 10_000
    idle_timeout: int = 75_000
    body_timeout: int = 30_000
    body_rate: int = 240
    body: int = 16 * 2**20
    handshake_timeout: int = 10_000
    close_timeout: int = 10_000
    control_frames: int = 100
    ping_interval: int = 20_000
    pong_timeout: int = 20_000

    receive_mark: int = 64 * 1024
    delimited: int = 2**20
    unsent: int = 2**20
    write_timeout: int = 30_000
    write_rate: int = 240
    linger: int = 10_000
    connections: int = 0
    address_connections: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.default == 0 or field.name in _MAY_BE_ZERO else 1
            most = MOST_MS if field.name.endswith(("_timeout", "_interval")) or field.name == "linger" else MOST
            check_int(f"the limit {field.name!r}", value, least, most)

    @property
    def most_fragments(self) -> int:
        """The most fragments of a message, with the meaning of ``fragments=0``.

        It isn't stored there: ``dataclasses.replace`` with another ``message`` has to
        change it.
        """
        return self.fragments or max(1024, self.message // 256)

    def __repr__(self) -> str:
        return changed_fields(self)


def changed_fields(options: Any) -> str:
    """The repr of a dataclass without the fields that have their default.

    Otherwise the signature of each function that takes limits would fill a screen.
    """
    given = [f"{field.name}={value!r}" for field in fields(options) if (value := getattr(options, field.name)) != field.default]
    return f"{type(options).__name__}({', '.join(given)})"


DEFAULT = Limits()


def check_limits(limits: object) -> Limits:
    """``limits`` as given by a caller. Raises TypeError if it isn't a ``Limits``."""
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is a silly.Limits, not {type(limits).__name__}")
    return limits
