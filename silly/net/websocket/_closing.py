"""The rest of a closing handshake, for the task that closes (RFC 6455, section 7.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core import scheduler
from ..._core.loop import monotonic
from ..._log import websocket as logger
from ..._wire.error import ProtocolError
from ..._wire.ws import CONTINUATION
from ..tcp import BURST

if TYPE_CHECKING:
    from ._session import Session


def finish_handshake(session: Session, fault: ProtocolError | None) -> None:
    """Waits for the peer's part of the handshake, after our close frame was sent, at
    most the limit ``close_timeout``. ``fault`` is a known fault of the peer: it
    is logged, and no close frame is waited for.
    """
    deadline = monotonic() + session.limits.close_timeout / 1000
    if fault is not None:
        _log(session, fault)
    elif session.messages.close is None:
        _await_close(session, deadline)
    if not session.server:
        # Section 7.1.1: the server closes TCP first, so that it keeps TIME_WAIT.
        _await_end(session, deadline)


def _await_close(session: Session, deadline: float) -> None:
    """Reads until the peer's close frame, its end, or the deadline. A fault of the
    peer now only ends the wait.
    """
    stream, messages = session.stream, session.messages
    while True:
        try:
            got = messages.next(stream.buf)
        except ProtocolError as exc:
            _log(session, exc)
            return
        if not got:
            session.burst = BURST  # much was inflated
        elif isinstance(got, int):
            if stream.fill(got, deadline) is not None:
                return
            continue
        elif messages.close is not None:
            session.closecode, session.closereason = messages.close
            return
        elif got[0] == CONTINUATION:
            messages.take_piece()
        session.burst += 1
        if session.burst >= BURST:
            session.burst = 0
            scheduler.pause()
            if monotonic() > deadline:  # not sooner: the close frame may be among what came in time
                return


def _await_end(session: Session, deadline: float) -> None:
    """Reads until the peer ends the connection, or the deadline."""
    while session.stream.fill(1, deadline) is None:
        session.stream.buf.clear()


def _log(session: Session, exc: ProtocolError) -> None:
    logger.limited("websocket closing", f"websocket: {session.stream.remoteaddr}: {exc.text} (while closing)")
