"""What ``task.select`` needs of a WebSocket.

It is ready when ``read`` needn't wait: a message or a control frame that ``read`` shows
is whole, or the socket is closed or broken. What has come is parsed at once, as a
reader does it: pings get their pong, pongs of our pings count, and a fault ends the
connection. What was parsed goes into ``session.taken``, where the next ``read`` finds
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._core import scheduler
from ..._core.select import next_turn
from ..._wire.accelerated import take_messages
from ..._wire.error import ProtocolError
from ..._wire.messages import Taken
from ..._wire.ws import BINARY, CONTINUATION, TEXT

if TYPE_CHECKING:
    from ._session import Session


def ready(session: Session) -> bool:
    """Whether ``read`` needn't wait. Raises RuntimeError if another task reads."""
    if session.taken or session.err is not None:
        return True
    session.stream.check_no_reader()
    return _parse(session) is None


def watch_session(session: Session, watch: scheduler.Task) -> None:
    """Wakes ``watch`` when there is more to parse, or the connection has ended."""
    need = _parse(session)
    if need is None:
        scheduler.wake(watch)
    elif not need:
        next_turn(watch)  # much was inflated
    else:
        session.stream.watch_data(watch, need, session.messages.payload)


def unwatch_session(session: Session, watch: scheduler.Task) -> None:
    """Forgets ``watch``. What has come meanwhile is data that nobody reads."""
    session.stream.unwatch_data(watch)
    session.data_unread()


def _parse(session: Session) -> int | None:
    """Parses what has come. Returns None if ``read`` needn't wait; else how many bytes
    the buffer must hold before there is more to parse, 0 if others only go first."""
    stream, messages = session.stream, session.messages
    buf = stream.buf
    while not session.taken and session.err is None:
        need = 1
        if buf or messages.payload is not None:
            taken: list[Taken] = []
            message = take_messages(buf, taken, session.server, messages.fast_limit)
            if message is not None:
                taken.append(message)
                session.arrived += len(taken)
                _set_aside(session, taken)
                break
            try:
                got = messages.next(buf)
            except ProtocolError as exc:
                session.broke(exc)
                break
            if not isinstance(got, int):
                opcode, data = got
                if CONTINUATION < opcode <= BINARY:
                    session.arrived += 1
                    _set_aside(session, [(data, "text" if opcode == TEXT else "binary")])
                    break
                shown: Any = session.control(opcode, data)
                if shown is not None and shown[0] is not None:
                    _set_aside(session, [shown])
                continue
            need = got
            if need > 1 or messages.opcode or messages.payload is not None:
                session.unfinished()
        return need if stream.err is None or not need else None
    return None


def _set_aside(session: Session, taken: list[Taken]) -> None:
    """Keeps what was taken for the next ``read``, the next one last."""
    session.taken = taken
    session.data_unread()
