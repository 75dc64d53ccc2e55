"""The PROXY protocol on listeners: whose connection it is that a proxy makes to us.

Such a listener takes connections from trusted peers only, and a connection begins there
with the header of the protocol, before TLS. A task of its own waits for it, and then
runs the handler. Until then the connection is a newcomer: no handler runs and no limit
counts it. What comes behind the header stays in the stream's buffer, where the protocol
above finds it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from .. import errno
from .._core import scheduler
from .._core.loop import monotonic
from .._log import tcp as logger
from .._wire.error import ProtocolError
from .._wire.limits import Limits
from .._wire.networks import Networks
from .._wire.proxy_protocol import take_header
from ._listener import host_of
from ._newcomers import Newcomers
from ._stream import Stream


class Carrier(Protocol):
    """A ``tcp.Conn``."""

    remoteaddr: str
    _stream: Stream


C = TypeVar("C", bound=Carrier)


class _Unannounced:
    """The ``Owner`` of a stream whose header has not come."""

    __slots__ = ("_newcomers",)

    def __init__(self, newcomers: Newcomers) -> None:
        self._newcomers = newcomers

    def process_ends(self) -> None:
        """Its header may be on its way."""
        self._newcomers.hurry()

    def data_unread(self) -> None:
        """Does nothing: its task is about to look."""

    drained = broken = said_goodbye = data_unread


class Greeting(Generic[C]):
    """What a listener does with a new socket: waits for the header, within the limit
    ``head_timeout``, and then calls ``go_on(conn)``, with the client's address as
    ``conn.remoteaddr``. ``carry(stream)`` makes ``conn``, which closes the stream when
    it is forgotten. Until the header has come, the stream is one of ``newcomers``.
    ``word`` begins log lines."""

    __slots__ = ("_carry", "_go_on", "_limits", "_newcomers", "_trusted", "_word")

    def __init__(
        self,
        word: str,
        trusted: Networks,
        limits: Limits,
        carry: Callable[[Stream], C],
        go_on: Callable[[C], object],
        newcomers: Newcomers,
    ) -> None:
        self._word = word
        self._trusted = trusted
        self._limits = limits
        self._carry = carry
        self._go_on = go_on
        self._newcomers = newcomers

    def __call__(self, sock: socket.socket, remoteaddr: str) -> None:
        if not self._trusted.trusts(host_of(remoteaddr)):
            sock.close()
            text = f"{self._word}: {remoteaddr}: closed: only the proxies in trusted may connect here"
            logger.limited("proxy untrusted", text)
            return
        stream = Stream(sock, remoteaddr, self._limits)
        stream.owner = _Unannounced(self._newcomers)
        self._newcomers.add(stream)
        stream.when_released(partial(self._newcomers.discard, stream))  # its task may never start
        code = getattr(self._go_on, "__code__", None)
        scheduler.fork(self._greet, (self._carry(stream),), None, code, 0, serves=True)

    def _greet(self, conn: C) -> object:
        stream = conn._stream
        stream.released_later()
        try:
            try:
                known = self._read_header(stream)
            except BaseException:
                stream.close()
                raise
            finally:
                self._newcomers.discard(stream)
            stream.owner = None
            if not known:
                stream.close()
                return None
            stream.disarm()
            conn.remoteaddr = stream.remoteaddr
            scheduler.current()._func = self._go_on  # what the log calls the task from now on
            return self._go_on(conn)
        finally:
            self._newcomers.task_ended()

    def _read_header(self, stream: Stream) -> bool:
        """Takes the header, and gives the stream the client's address. Returns False if
        it doesn't come, which is logged."""
        deadline = monotonic() + self._limits.head_timeout / 1000
        while True:
            try:
                found = take_header(stream.buf)
            except ProtocolError as exc:
                self._log(stream, exc.text)
                return False
            if not isinstance(found, int):
                stream.remoteaddr = found.remoteaddr or stream.remoteaddr
                return True
            err = stream.fill(found, deadline)
            if err is not None:
                if not stream.closed:
                    self._incomplete(stream, err)
                return False

    def _incomplete(self, stream: Stream, err: str) -> None:
        if err == errno.TIMEDOUT:
            most = self._limits.head_timeout
            self._log(stream, f"no PROXY header within the limit 'head_timeout' of {most} ms")
        elif stream.buf:
            self._log(stream, f"the connection ended within the PROXY header: {err}")
        else:  # such as a health check, which only connects
            logger.limited("proxy probe", f"{self._word}: {stream.remoteaddr}: it ended without a PROXY header", logger.DEBUG)

    def _log(self, stream: Stream, why: str) -> None:
        logger.limited("proxy refused", f"{self._word}: {stream.remoteaddr}: {why}")


def check_proxy(what: str, proxy: object, trusted: object) -> Networks:
    """Returns the networks of ``trusted`` for a listener with ``proxy=True``. Raises
    TypeError or ValueError for other arguments; ``what`` names the caller."""
    if not isinstance(proxy, bool):
        raise TypeError(f"{what}: proxy is True or False, not {type(proxy).__name__}")
    if trusted is None:
        raise ValueError(f"{what}: proxy=True needs trusted, the networks of your proxies: else anybody may claim any address")
    if not proxy:
        raise ValueError(f"{what}: trusted says whose PROXY header to believe, and needs proxy=True")
    return Networks(what, trusted)
