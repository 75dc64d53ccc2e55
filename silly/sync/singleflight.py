"""One call at a time for each key: callers that ask for the same key while the call
runs share its result.

    asked = []

    def load(user):
        asked.append(user)
        time.sleep(10)                      # asks a database
        return {"name": user}

    sf = singleflight.new(load)
    for _ in range(100):
        task.fork(sf.call, "ann")
    sf.call("ann")                          # -> {"name": "ann"}
    asked                                   # -> ["ann"]

Nothing is kept: after the call has returned, the next caller begins a new one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, TypeVar, cast

from .._core import scheduler
from .._core.result import Error
from .._core.tasks import Task
from .._core.waiting import Waiters
from .._shown import shown
from ._keys import key_of

__all__ = ["SingleFlight", "new"]

K = TypeVar("K")
V = TypeVar("V")

_loop = scheduler.loop


class _Flight:
    """A call that runs, and the tasks that wait for its result."""

    __slots__ = ("_ended", "_flights", "_name", "_waiters", "shows", "task")

    def __init__(self, flights: dict[Any, _Flight], name: Any, shows: Any) -> None:
        self._flights = flights
        self._name = name
        """What stands for the key in ``flights``."""
        self._waiters: Waiters[Task[Any]] = Waiters()
        self.shows = shows
        """The key."""
        self.task: Task[Any] | None = None
        """The task that calls the function; None after its end."""
        self._ended: Task[Any] | None = None
        """That task after its end."""

    def __str__(self) -> str:
        """Returns what a task that waits for it waits on."""
        return f"singleflight.call({shown(self.shows, 50)})"

    def wait(self) -> Task[Any]:
        """Waits for the end of the call, and returns its task."""
        return self._waiters.wait(self, None, self._missed)

    def _missed(self) -> None:
        """Wakes the callers if the call has ended since they looked: a finalizer may
        run, and wait, between any two steps."""
        if self._ended is not None:
            self._waiters.wake_all(self._ended)

    @property
    def awaits(self) -> bool:
        """Whether a caller waits. If all have left, an exception is logged."""
        return self._waiters.first is not None

    def ended(self, task: Task[Any]) -> None:
        """The task of the call has ended."""
        self.task, self._ended = None, task
        del self._flights[self._name]
        self._waiters.wake_all(task)


class SingleFlight(Generic[K, V]):
    """Calls of one function, one at a time for each key; see the module."""

    __slots__ = ("__weakref__", "_flights", "_func")

    def __init__(self, func: Callable[[K], V]) -> None:
        self._func = func
        self._flights: dict[Any, _Flight] = {}

    def call(self, key: K) -> V:
        """Calls the function with ``key`` in a task of its own, unless such a call runs
        already, and waits for its result, which it returns.

            sf = singleflight.new(lambda name: "hello " + name)
            sf.call("world")                # -> "hello world"

        What the function raises is raised in each caller. The task has a copy of the
        context variables of the caller that began it. A caller that is interrupted (by
        ``cancel``, by its ``time.deadline``, which raises TimeoutError) leaves, and the
        others get the result; the call goes on, even if nobody waits for it any more.

        ``key`` is any value that can be hashed. A dict stands for itself, not for its
        contents.

        Raises TypeError for any other key that can't be hashed, ``silly.Error`` if the
        task of the call was cancelled, and RuntimeError where no task runs, and in the
        function itself for the key that it is called with.
        """
        if _loop.no_switch:
            scheduler.refuse("singleflight.call")
        me = scheduler.current()
        name = key_of(key)
        flight = self._flights.get(name)
        if flight is None:
            flight = self._begin(name, key, sys._getframe(1))
        elif flight.task is me:
            raise RuntimeError(f"{flight}: the function would wait for its own result")
        ended = flight.wait()
        try:
            value, err = ended._outcome()
        except BaseException:
            del flight  # else the exception would hold this frame, and this frame the exception
            raise
        finally:
            del ended  # likewise
        if err is not None:
            raise Error(f"{flight}: {err}")
        return cast(V, value)

    def _begin(self, name: Any, key: K, frame: FrameType) -> _Flight:
        """Starts the call, for the caller whose frame is ``frame``."""
        flight = _Flight(self._flights, name, key)
        begun = self._flights.setdefault(name, flight)
        if begun is not flight:
            return begun  # a finalizer has waited here, and another caller came
        try:
            # The library's own: it starts also in a ``finally`` block at the process's
            # end.
            flight.task = scheduler.fork(self._func, (key,), None, frame.f_code, frame.f_lasti, ours=True)
        except BaseException:
            del self._flights[name]
            raise
        flight.task._keeper = flight
        return flight


def new(func: Callable[[K], V]) -> SingleFlight[K, V]:
    """Returns a new group of calls of ``func``.

        sf = singleflight.new(lambda name: "hello " + name)

    Raises TypeError if ``func`` can't be called.
    """
    if not callable(func):
        raise TypeError(f"singleflight.new needs a function, not {type(func).__name__}")
    return SingleFlight(func)
