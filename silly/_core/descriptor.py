"""Waiting for descriptors that are not the library's own: other people's sockets, pipes
and event loops. The library's own streams wait in ``net/_stream.py``, at less cost.

A ``Descriptor`` is the record of one descriptor: the task that waits to read, and the
one that waits to write, which may be the same. There is at most one record for each
descriptor at a time (``_records``). It is one of two kinds:

* By default it is registered while a task waits, and level-triggered. So the program
  may close the descriptor whenever no task waits.
* With ``edge=True`` it stays registered, edge-triggered, until ``forget``: waiting then
  costs no system call. Its owner must first try, and wait only after EAGAIN, and must
  call ``forget`` before it closes the descriptor. Where the system has no
  edge-triggering, it is of the first kind.

epoll forgets a descriptor that is closed, and says nothing. So code that closes one for
which a task waits calls ``forget`` before; the task then gets ``FORGOTTEN``. If it
doesn't, and the number is another descriptor's by now, the next wait for it finds that
out (with epoll), and the old waits end with ``FORGOTTEN`` too.
"""

from __future__ import annotations

import select
from typing import Any

from . import scheduler
from .loop import READ, WRITE, QuietHandler
from .scheduler import park, wake
from .tasks import Leaving, Task
from .timers import Timer

__all__ = ["FORGOTTEN", "READ", "TIMED_OUT", "WRITE", "Descriptor", "find"]

EDGE: int = getattr(select, "EPOLLET", 0)
"""The bit of edge-triggering, or 0 where there is none."""
TIMED_OUT = 0
"""What ``wait`` returns at its deadline."""
FORGOTTEN = -1
"""What ``wait`` returns when the descriptor is closed."""

_BOTH = READ | WRITE
_loop = scheduler.loop
_records: dict[int, Descriptor] = {}
"""The registered records, by descriptor."""


class Descriptor(QuietHandler):
    """See the module's header."""

    __slots__ = ("_edge", "_events", "_read_until", "_reader", "_timer", "_write_until", "_writer", "fd", "watched")

    def __init__(self, fd: int, *, edge: bool = False) -> None:
        self.fd = fd
        self.watched: int | None = None
        """For the loop: see ``Watched`` there."""
        self._edge = edge and EDGE != 0
        self._events = 0
        """What is registered, 0 for nothing."""
        self._reader: Task[Any] | None = None
        self._writer: Task[Any] | None = None
        self._read_until: float | None = None
        self._write_until: float | None = None
        self._timer: Timer | None = None
        """Checks the two deadlines when it fires, so that a wait with a time-out seldom
        sets one."""

    @property
    def registered(self) -> bool:
        """Whether ``forget`` is due before the descriptor is closed."""
        return self._events != 0

    def wait(self, events: int, what: object, deadline: float | None = None, *, untried: bool = False) -> int:
        """Blocks the current task until one of ``events`` (READ, WRITE or both) is
        there, and returns those that are. Returns ``TIMED_OUT`` at ``deadline``, a time
        of ``loop.monotonic``, and ``FORGOTTEN`` after ``forget``.

        ``what`` describes in reports what it waits on. ``untried``: the caller has not
        met EAGAIN, so the descriptor may be ready already.

        Raises OSError if the descriptor is closed (EBADF), registered by another part
        of the library (EEXIST) or always ready (EPERM, a file); RuntimeError if another
        task waits for the same; and what ``park`` raises.
        """
        if scheduler.exiting:
            scheduler.pause()
            raise Leaving
        task: Task[Any] | None = _loop.current
        if task is None:
            raise RuntimeError(scheduler.not_here("cannot block", what))
        if (events & READ and self._reader is not None) or (events & WRITE and self._writer is not None):
            self._check_open()
            if self._events:
                raise RuntimeError(f"{what}: another task already waits for the same")
        if events & ~self._events:
            self._register(self._events | events, what)
        elif untried and self._edge:
            _loop.modify(self.fd, self._events | EDGE, self._on_event)  # reports what is there already
        if events & READ:
            self._reader, self._read_until = task, deadline
        if events & WRITE:
            self._writer, self._write_until = task, deadline
        if deadline is not None and (self._timer is None or self._timer.when > deadline):
            self._arm(deadline)
        if self.watched is None:
            _loop.watch(self)
        try:
            got: int = park(what)
        except BaseException:
            if self._reader is task:
                self._reader = None
            if self._writer is task:
                self._writer = None
            self._interest()
            raise
        return got

    def forget(self) -> None:
        """Ends all waits, before the descriptor is closed. Does nothing if it is not
        registered."""
        if _records.get(self.fd) is self:
            del _records[self.fd]
            try:
                _loop.unregister(self.fd)
            except OSError:
                pass  # it is closed already
            self._gone()

    def wakes(self) -> bool:
        """For the loop: whether a task waits."""
        return self._reader is not None or self._writer is not None

    def close(self) -> None:
        """For the loop: no task is left. The descriptor itself is not ours to close."""
        self.forget()

    abort = close

    def disown(self) -> None:
        """For the loop, in a child of ``os.fork``: nothing is registered there."""
        _records.pop(self.fd, None)
        self._events = 0
        self._reader = self._writer = self._timer = self.watched = None

    # ---- registering -----------------------------------------------------------------

    def _register(self, events: int, what: object) -> None:
        """Registers for ``events`` as well as for what is waited for already."""
        fd = self.fd
        wanted = events & ~self._events
        self._check_open()
        if self._events:
            _loop.modify(fd, events, self._on_event)
            self._events = events
            return
        before = _records.get(fd)
        if before is not None:
            before._check_open()
            if before.wakes():
                raise RuntimeError(f"{what}: another task waits for the same descriptor, by its number")
            before.forget()
        if self._edge:
            _loop.register(fd, _BOTH | EDGE, self._on_event)
            self._events = _BOTH
        else:
            _loop.register(fd, wanted, self._on_event)
            self._events = wanted
        _records[fd] = self
        _loop.handlers.add(self)

    def _check_open(self) -> None:
        """Ends all waits if the program has closed the descriptor, which may be another
        one by now."""
        if self._events:
            try:
                _loop.modify(self.fd, self._events | (EDGE if self._edge else 0), self._on_event)
            except OSError:
                self.forget()

    def _interest(self) -> None:
        """Registers for less, if tasks wait for less than before."""
        if self._edge or not self._events:
            return
        events = (READ if self._reader is not None else 0) | (WRITE if self._writer is not None else 0)
        if not events:
            self.forget()
        elif events != self._events:
            try:
                _loop.modify(self.fd, events, self._on_event)
            except OSError:  # closed by the program, which has not called ``forget``
                self.forget()
            else:
                self._events = events

    def _gone(self) -> None:
        """It is not registered any more."""
        self._events = 0
        _loop.forget(self)
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
            self._timer = None
        self._wake(_BOTH, FORGOTTEN)

    # ---- waking ----------------------------------------------------------------------

    def _on_event(self, mask: int) -> None:
        self._wake(mask, mask)
        self._interest()

    def _wake(self, events: int, value: int) -> None:
        """Wakes the tasks that wait for ``events``, with ``value``, or with the part of
        it that they wait for."""
        reader, writer = self._reader, self._writer
        if events & READ and reader is not None:
            self._reader = None
            if reader is writer:
                self._writer = writer = None
                wake(reader, value)
            else:
                wake(reader, READ if value > 0 else value)
        if events & WRITE and writer is not None:
            self._writer = None
            if reader is writer:
                self._reader = None
                wake(writer, value)
            else:
                wake(writer, WRITE if value > 0 else value)

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            _loop.timers.cancel(self._timer)
        self._timer = _loop.timers.add(deadline, self._on_timer, internal=True)

    def _on_timer(self, _: None) -> None:
        """Ends the waits whose time is over. What has come since the loop last looked
        was not seen yet."""
        self._timer = None
        over = 0
        left: list[float] = []
        for waiting, until, event in (
            (self._reader, self._read_until, READ),
            (self._writer, self._write_until, WRITE),
        ):
            if waiting is not None and until is not None:
                if until <= _loop.busy_since:
                    over |= event
                else:
                    left.append(until)
        if over:
            self._wake(over, TIMED_OUT)
            self._interest()
        if left and self.wakes():
            self._arm(min(left))

    def __repr__(self) -> str:
        return f"the wait for descriptor {self.fd}"


def find(fd: int) -> Descriptor:
    """Returns the record of a descriptor: the registered one, or a new one."""
    return _records.get(fd) or Descriptor(fd)
