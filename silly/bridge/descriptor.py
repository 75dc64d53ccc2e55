"""Waiting for a descriptor: what a library of C, or one with an event loop of its own,
needs to run here.

    def read(fd):
        events, err = bridge.descriptor.wait(fd, bridge.descriptor.READ, 1000)
        return (None, err) if events is None else (os.read(fd, 4096), None)

    reader, writer = os.pipe()
    os.write(writer, b"hello")
    data, err = read(reader)                # -> (b"hello", None)
    os.close(reader)
    os.close(writer)

A ``read`` without the wait would hold up every task.
"""

from __future__ import annotations

from errno import EBADF, EEXIST, EPERM
from typing import Protocol

from .. import errno
from .._core import scheduler
from .._core.callers import check_timeout
from .._core.descriptor import FORGOTTEN, READ, TIMED_OUT, WRITE, find
from .._core.loop import monotonic
from .._core.tasks import DeadlineOver, Leaving

__all__ = ["READ", "WRITE", "forget", "wait"]

_loop = scheduler.loop


class HasFileno(Protocol):
    """An object with a descriptor, such as a socket."""

    def fileno(self) -> int: ...


def wait(fd: int | HasFileno, events: int, timeout: float | None = None) -> tuple[int, None] | tuple[None, str]:
    """Waits until a descriptor is ready. Only the calling task waits, at most
    ``timeout`` ms.

        bridge.descriptor.wait(reader, bridge.descriptor.READ, 1000)    # -> (1, None)

    * ``fd``: a number, or an object with ``fileno()``. It should be non-blocking, since
      another process may have taken the data by the time that the task runs.
    * ``events``: ``READ``, ``WRITE``, or both: then one is enough.

    Returns ``(events, None)`` with what is ready. An error or a hang-up counts as
    ready: the next call on the descriptor reports it. A file is always ready. Returns
    ``(None, err)`` if it is not: ``errno.TIMEDOUT``, also at a ``time.deadline``, or
    ``errno.CLOSED`` after ``forget`` or at the end of the process. A caller that goes
    on waiting after ``errno.TIMEDOUT`` would spin at a deadline.

    One task may wait to read and another to write. Raises RuntimeError if another
    already waits for the same, ValueError if the descriptor is closed or is one of the
    library's own, ValueError or TypeError for other invalid arguments.
    """
    if _loop.no_switch:
        scheduler.refuse("bridge.descriptor.wait")
    scheduler.current()  # in a thread, while a task runs, nothing may be registered
    number = _number("bridge.descriptor.wait", fd)
    if events not in (READ, WRITE, READ | WRITE):
        raise ValueError("bridge.descriptor.wait: the events are READ, WRITE or READ | WRITE")
    deadline = None
    if timeout is not None:
        check_timeout("bridge.descriptor.wait", timeout)
        deadline = monotonic() + timeout / 1000
    try:
        got = find(number).wait(events, f"descriptor {number}", deadline, untried=True)
    except DeadlineOver:
        return None, errno.TIMEDOUT
    except Leaving:
        return None, errno.CLOSED
    except OSError as exc:
        if exc.errno == EPERM:
            return events, None  # a file or a folder
        if exc.errno == EBADF:
            raise ValueError(f"bridge.descriptor.wait: {number} is not an open descriptor") from None
        if exc.errno == EEXIST:
            text = f"bridge.descriptor.wait: silly itself waits for descriptor {number}: use its connection"
            raise ValueError(text) from None
        raise
    if got == TIMED_OUT:
        return None, errno.TIMEDOUT
    if got == FORGOTTEN:
        return None, errno.CLOSED
    return got, None


def forget(fd: int | HasFileno) -> None:
    """Ends every wait for a descriptor, which gets ``errno.CLOSED``. To be called
    before the descriptor is closed, if a task may wait for it: the system says nothing
    of a close, and the task would wait for ever.

        bridge.descriptor.forget(reader)
        os.close(reader)

    Never waits. Does nothing if no task waits for it, or if it is closed already.
    """
    scheduler.check_thread(closes=True)
    number = _number("bridge.descriptor.forget", fd, closed=True)
    if number >= 0:
        find(number).forget()


def _number(call: str, fd: int | HasFileno, *, closed: bool = False) -> int:
    """Returns the number of a descriptor. ``closed``: it may be closed."""
    number = fd
    if not isinstance(number, int):
        try:
            number = number.fileno()
        except AttributeError:
            raise TypeError(f"{call} takes a descriptor, or an object with fileno(), not {type(fd).__name__}") from None
    if isinstance(number, bool):
        raise TypeError(f"{call} takes a descriptor, not bool")
    if not (0 <= number < 2**31 or (closed and number == -1)):
        raise ValueError(f"{call}: {number} is not an open descriptor")
    return number
