"""``task.select``: waits until one of several things is ready.

Nothing here knows a socket. A thing that can be selected has the three methods of
``Selectable``, and each layer implements them for its own things. They take nothing and
never wait:

* ``_ready()`` says whether the thing's next ``read``, ``pop``, ``join`` or ``wait``
  would return without waiting. It raises RuntimeError if another task waits there and
  only one may.
* ``_watch(watch)`` stores ``watch``. The thing wakes it (``scheduler.wake``) once, when
  it may have become ready. If that is the case already, since a signal handler has run
  after ``_ready``, it wakes it at once. A thing that has more work of its own to do,
  and lets others go first, calls ``next_turn``. A watch that was woken is stored again
  by a further call.
* ``_unwatch(watch)`` forgets it, or does nothing if it is not stored any more.

**A watch** is a ``Task`` that is in no table of tasks and never starts. So whatever
wakes a task that reads can wake it too, also code in C, and nothing on the way of a
message had to change. In place of a greenlet it has a ``Selecting``: the ready queue
switches to that, which wakes the task that selects. Each thing has a watch of its own,
and its status says what that thing did: ``WAIT`` (nothing yet), ``READY`` (it has woken
the watch, which is still in the queue), ``RUN`` (the watch had its turn).

A wake-up may be in vain. So ``select`` asks what was woken whether it is ready, in the
order of the arguments, and watches it again if it is not.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from greenlet import getcurrent

from .. import errno
from . import scheduler
from .deadline import Timeout
from .tasks import READY, RUN, WAIT, DeadlineOver, Leaving, Task
from .waiting import Waiters

BURST = 64
"""After this many calls in a row that didn't wait, others run first."""

_WAIT = "task.select"
_loop = scheduler.loop
_burst = 0
"""How many calls in a row didn't wait, whatever task made them."""


class Selectable(Protocol):
    """See the module's header."""

    def _ready(self) -> bool: ...

    def _watch(self, watch: Task[Any], /) -> None: ...

    def _unwatch(self, watch: Task[Any], /) -> None: ...


S = TypeVar("S", bound=Selectable)


class _NoFrame:
    """The frame of a ``Selecting``: it is none of the scheduler's own."""

    f_code = None


class Selecting:
    """A task that waits in ``select``; to the scheduler, the greenlet of its
    watches."""

    __slots__ = ("_waiters", "_woken")

    dead = False
    gr_frame = _NoFrame

    def __init__(self) -> None:
        self._waiters: Waiters[None] = Waiters()
        self._woken = False
        """Whether a watch had its turn since ``wait`` began last."""

    def wait(self) -> None:
        """Waits for the turn of a watch."""
        self._waiters.wait(_WAIT, None, self._missed)
        self._woken = False

    def _missed(self) -> None:
        """Wakes the task if a watch had its turn before the task waits: a finalizer may
        run, and wait, between any two steps."""
        if self._woken:
            self._waiters.wake_one()

    def new_watch(self) -> Task[Any]:
        """Makes a watch that wakes this task."""
        watch: Task[Any] = Task(_never, (), None, None, 0)
        green: Any = self
        watch._greenlet = green
        watch._status = WAIT
        return watch

    def switch(self) -> Any:
        """The turn of a watch. If a task that blocks has switched here, the hub goes
        on."""
        self._woken = True
        self._waiters.wake_one()
        return None if getcurrent() is scheduler.hub else _loop.to_hub()


def _never() -> None:
    """The function of a watch."""
    raise RuntimeError("BUG: a watch was started")


_never.__qualname__ = _WAIT


def next_turn(watch: Task[Any]) -> None:
    """Wakes ``watch`` in the loop's next turn, after the I/O that is pending now."""
    watch._status = READY
    _loop.deferred.append(watch)


def select(things: tuple[S, ...], timeout: float | None) -> tuple[S, None] | tuple[None, str]:
    """See ``task.select``, which has checked the time."""
    global _burst
    if _loop.no_switch:
        scheduler.refuse(_WAIT)
    scheduler.current()  # raises where no task runs
    for thing in things:
        if not hasattr(type(thing), "_unwatch"):
            raise _wrong(thing)
    if not things:
        raise ValueError("task.select needs at least one thing to wait for")
    _burst += 1
    if _burst >= BURST:
        _burst = 0
        scheduler.pause()
    for thing in things:
        if thing._ready():
            return thing, None
    _burst = 0
    try:
        if timeout is None:
            return _wait(things), None
        with Timeout(timeout):
            return _wait(things), None
    except Leaving:
        return None, errno.CLOSED
    except DeadlineOver as over:
        return None, str(over)


def _wait(things: tuple[S, ...]) -> S:
    """Returns the first of ``things`` that is ready; none is yet."""
    selecting = Selecting()
    watched = [(thing, selecting.new_watch()) for thing in dict.fromkeys(things)]
    try:
        for thing, watch in watched:
            thing._watch(watch)
        while True:
            selecting.wait()
            for thing, watch in watched:
                status = watch._status
                if status != WAIT:
                    if thing._ready():
                        return thing
                    if status == RUN:
                        watch._status = WAIT
                        thing._watch(watch)
    finally:
        for thing, watch in watched:
            thing._unwatch(watch)


def _wrong(thing: object) -> TypeError:
    """The error for an argument that can't be selected."""
    hint = "; give the things one by one: task.select(*things)" if isinstance(thing, (list, tuple, set, dict)) else ""
    kinds = "connections, WebSockets, udp sockets, HTTP requests and responses, channels, events and tasks"
    return TypeError(f"task.select takes {kinds}, not {type(thing).__name__}{hint}")
