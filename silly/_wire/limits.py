"""The limits that protect a server, in one object, each with its reason. All are on by default.

    http.listen(addr=":8080", handler=handler, limits=silly.Limits(message=16 * 2**20))
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in milliseconds. Immutable. Raises ValueError for what isn't a positive int."""

    message: int = 2**20
    """A WebSocket message; one exactly as long passes. 1 MiB: the default of ``websockets``. Past it: close 1009."""
    fragments: int = 0
    """Fragments of a WebSocket message, empty ones counted; 0 means max(1024, message / 256). Past it: close 1008."""
    head: int = 64 * 1024
    """A request or response head. 64 KiB: nginx takes 32, Node 16, Tomcat 8. Past it: 431."""
    header_lines: int = 128
    """Header lines of a head; Apache takes 100. Past it: 431."""
    line: int = 8 * 1024
    """The request line, and any one header line; nginx and Apache take 8 KiB. Past it: 414 or 431."""
    head_timeout: int = 10_000
    """For a whole request head, from its first byte. Past it: 408."""
    idle_timeout: int = 75_000
    """Between two requests of a connection; nginx's ``keepalive_timeout``. Past it: closed."""
    body_timeout: int = 30_000
    """Without a byte of a body. Past it: the read fails, and the connection closes (a server answers 408)."""
    body_rate: int = 240
    """Bytes a second that a request body must keep up while it is waited for, after twice ``body_timeout``; 0 for any pace.
    Kestrel asks as much. Past it: 408."""
    body: int = 16 * 2**20
    """A body that ``readall`` gathers; of a response, what it decodes to. Past it: an error, of a server 413."""
    handshake_timeout: int = 10_000
    """For a WebSocket client's handshake, and a TLS handshake. Past it: an error."""
    close_timeout: int = 10_000
    """For the peer's part of the WebSocket closing handshake. Past it: TCP is dropped."""
    control_frames: int = 100
    """WebSocket control frames in a row while the kernel takes no output. Past it: close 1008."""
    ping_interval: int = 20_000
    """Between two keepalive pings of a WebSocket; 0 for no keepalive. 20 s: the default of ``websockets``."""
    pong_timeout: int = 20_000
    """For any byte of the peer after a keepalive ping. Past it: close 1011."""

    receive_mark: int = 64 * 1024
    """Unread bytes of a connection at which reading pauses, and TCP holds the peer."""
    unsent: int = 2**20
    """Unsent bytes of a connection past which a writer waits, until a quarter of it is left."""
    write_timeout: int = 30_000
    """Without progress in sending. Past it: the connection is given up."""
    linger: int = 10_000
    """For a closed connection to deliver what was written. Past it: cut off."""

    connections: int = 0
    """Connections of a listener at a time; 0 for any number. Past it: 503, with TLS closed before the handshake."""
    address_connections: int = 0
    """Connections of one source address at a time; 0 for any number. Past it: the same."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.default == 0 or field.name in ("ping_interval", "body_rate") else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"the limit {field.name!r} is a positive int, not {value!r}")

    @property
    def most_fragments(self) -> int:
        """What ``fragments`` means. Not stored in it: ``dataclasses.replace`` with another ``message`` shall change it."""
        return self.fragments or max(1024, self.message // 256)


DEFAULT = Limits()


def check_limits(limits: object) -> Limits:
    """``limits`` as given by a caller. Raises TypeError for what is no ``Limits``."""
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is a silly.Limits, not {type(limits).__name__}")
    return limits
