"""Running coroutines of asyncio, in silly's own thread. So a library that is written
for asyncio can be used as it is.

    async def fetch():
        await asyncio.sleep(0.01)
        return "done"

    value, err = bridge.asyncio.run(fetch(), 1000)      # -> ("done", None)

There is one loop of asyncio, made by the first ``run``. All coroutines run on it, so
they may share sessions, pools and locks. No task runs in a coroutine: a call of silly
that waits raises RuntimeError there. See ``_asyncio_loop.py``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterator
from types import CoroutineType
from typing import Any, Generic, TypeVar

from .. import errno
from .._core import scheduler
from .._core.callers import check_timeout
from .._core.result import returns_pair
from .._core.tasks import DeadlineOver, Leaving
from .._core.waiting import Waiters
from .._ends import ENDS
from .._log import task as logger
from .._shown import name_of
from ._asyncio_loop import Host, begin, end_by, present

__all__ = ["iterate", "run"]

T = TypeVar("T")

Outcome = tuple[Any, BaseException | None]
"""``(value, None)`` of a coroutine, or ``(None, exception)``."""

_RUN = "bridge.asyncio.run"
_ITERATE = "bridge.asyncio.iterate"
_END: Any = object()
_loop = scheduler.loop


class Running:
    """A coroutine, or another awaitable, for which a task waits in ``what``."""

    __slots__ = ("_awaitable", "_host", "_name", "_task", "_waiters", "_what", "state")

    NEW, BEGUN, GIVEN_UP, DONE = "new", "begun", "given up", "done"

    def __init__(self, what: str, awaitable: Awaitable[Any]) -> None:
        self.state = self.NEW
        """``GIVEN_UP``: it was cancelled, and nobody waits for it."""
        self._what = what
        self._awaitable: Awaitable[Any] | None = awaitable
        """What to await; None once that has begun, or never will."""
        self._name = name_of(awaitable) if inspect.iscoroutine(awaitable) else type(awaitable).__qualname__
        self._host: Host | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters: Waiters[Outcome] = Waiters()

    def wait(self, timeout: float | None) -> Outcome:
        """Runs it, and waits. Raises what ``Waiters.wait`` raises."""
        me = scheduler.current()
        if scheduler.leaving():
            raise Leaving
        scheduler.check_wait(me, self._what)
        self._host = host = begin()
        # Not by the application's factory: an eager one would begin it in this task.
        self._task = asyncio.Task(self._run(), loop=host.asyncio, name=self._name)
        self._task.add_done_callback(self._not_begun)
        host.calls += 1
        if host.watched is None:
            _loop.watch(host)
        try:
            return self._waiters.wait(self._what, self._dropped, timeout=timeout)
        finally:
            host.calls -= 1

    async def _run(self) -> None:
        awaitable, self._awaitable = self._awaitable, None
        assert self._task is not None
        assert awaitable is not None
        self.state = self.BEGUN
        self._task.remove_done_callback(self._not_begun)
        try:
            value = await awaitable
        except BaseException as exc:
            self._ended((None, exc))
        else:
            self._ended((value, None))

    def _not_begun(self, _: object) -> None:
        """Its task in asyncio was cancelled before it began."""
        if self.state is self.NEW:
            self._close()
            self._ended((None, asyncio.CancelledError()))

    def _ended(self, outcome: Outcome) -> None:
        if self.state is self.GIVEN_UP:
            assert self._host is not None
            assert self._task is not None
            self._host.ended(self._task)
            self._dropped(outcome)
        else:
            self._waiters.wake_one(outcome)
        self.state = self.DONE

    def _dropped(self, outcome: Outcome) -> None:
        """Nobody waits for the outcome any more."""
        exc = outcome[1]
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            end_by(exc)
        elif exc is not None and not isinstance(exc, (asyncio.CancelledError, GeneratorExit, *ENDS)):
            logger.dropped(f"{self._what}: exception in {self._name}, whose result nobody awaits any more:", exc)

    def give_up(self) -> None:
        """Nobody waits. What has not begun never does, and what has not ended is
        cancelled, in the background."""
        if self.state is self.NEW:
            self.state = self.DONE
            self._close()
        elif self.state is self.BEGUN:
            assert self._host is not None
            assert self._task is not None
            if self._host.asyncio.is_closed():
                return  # aborted: nothing of it goes on
            self.state = self.GIVEN_UP
            self._host.give_up(self._task)
        if self._task is not None:
            self._task.cancel()  # does nothing if it has ended

    def _close(self) -> None:
        """Drops what has not begun, without a warning that it never did."""
        awaitable, self._awaitable = self._awaitable, None
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        elif asyncio.isfuture(awaitable):
            awaitable.cancel()


def _check(awaitable: object) -> None:
    """Raises TypeError or ValueError if the object can't be awaited on this loop."""
    if not inspect.isawaitable(awaitable):
        hint = ""
        if inspect.iscoroutinefunction(awaitable):
            hint = f": call the function, {_RUN}({name_of(awaitable)}(…))"
        elif hasattr(awaitable, "__anext__"):
            hint = f": {_ITERATE} goes through its items"
        raise TypeError(f"{_RUN} needs a coroutine or another awaitable, not {type(awaitable).__name__}{hint}")
    host = present()
    if asyncio.isfuture(awaitable) and (host is None or awaitable.get_loop() is not host.asyncio):
        hint = f"make it (with asyncio.gather too) in a coroutine that {_RUN} runs"
        raise ValueError(f"{_RUN}: the future belongs to another loop of asyncio; {hint}")


def _run(what: str, awaitable: Awaitable[Any], timeout: float | None) -> tuple[Any, str | None]:
    """Runs what can be awaited: see ``run``. ``what`` is the public call."""
    outcome: Outcome | None = None
    running = Running(what, awaitable)
    try:
        if timeout is not None:
            check_timeout(what, timeout)
        outcome = running.wait(timeout)
        if outcome[1] is None:
            return outcome[0], None
        if isinstance(outcome[1], asyncio.CancelledError):
            return None, "cancelled"
        raise outcome[1]
    except DeadlineOver as over:
        if outcome is not None:
            raise  # the coroutine's own
        return None, str(over)
    except Leaving:
        if outcome is not None:
            raise
        return None, errno.CLOSED
    finally:
        if running.state is not running.DONE:
            running.give_up()
        del outcome, running, awaitable  # the traceback holds this frame


@returns_pair(_RUN, "value")
def run(awaitable: Awaitable[T], timeout: float | None = None) -> tuple[T, None] | tuple[None, str]:
    """Runs a coroutine on asyncio's loop in silly's thread, and waits for it, for at
    most ``timeout`` milliseconds. Only the calling task waits. Returns
    ``(value, None)``: what the coroutine has returned.

        async def add(a, b):
            return a + b

        value, err = bridge.asyncio.run(add(1, 2), 1000)    # -> (3, None)

    ``awaitable`` is a coroutine, a future or task of that loop, or any other object
    with ``__await__``. It sees the context variables of the calling task. An exception
    that it raises is raised here.

    The errors: ``(None, "bridge.asyncio.run: the time-out of 100 ms ran out")``, and so
    for a ``time.deadline``; ``(None, errno.CLOSED)`` when nothing waits any more at the
    process's end; ``(None, "cancelled")`` if other code of asyncio has cancelled it.

    When the time is over, or when the calling task is cancelled or ends with the
    process, the coroutine is cancelled, and its ``finally`` blocks run in the
    background. An exception that comes out of it then is logged. If it has not begun it
    never does.

    Raises RuntimeError in a coroutine, TypeError for an object that can't be awaited,
    and ValueError for a future of another loop.
    """
    if _loop.no_switch:
        if type(awaitable) is CoroutineType:
            awaitable.close()  # else Python warns that it was never awaited
        scheduler.refuse(_RUN)
    _check(awaitable)
    return _run(_RUN, awaitable, timeout)  # type: ignore[return-value]


async def _next(items: AsyncIterator[T]) -> T:
    try:
        return await items.__anext__()
    except StopAsyncIteration:
        return _END  # type: ignore[no-any-return]


class AsyncItems(Iterator[T], Generic[T]):
    """The items of an asynchronous iterator: see ``iterate``. Afterwards ``err`` says
    why they ended early; it is None if they came to their end."""

    __slots__ = ("_items", "_taking", "_timeout", "err")

    def __init__(self, items: AsyncIterator[T], timeout: float | None) -> None:
        self.err: str | None = None
        self._items: AsyncIterator[T] | None = items
        """None after the end."""
        self._timeout = timeout
        self._taking = False
        """Whether a task waits for the next item."""

    def __next__(self) -> T:
        if _loop.no_switch:
            scheduler.refuse(_ITERATE)
        if self._taking:
            raise RuntimeError(f"{_ITERATE}: another task waits for the next item")
        items, self._items = self._items, None
        if items is None:
            raise StopIteration
        self._taking = True
        try:
            item, self.err = _run(_ITERATE, _next(items), self._timeout)
        finally:
            self._taking = False
        if self.err is not None or item is _END:
            raise StopIteration
        self._items = items
        return item  # type: ignore[no-any-return]


def iterate(source: AsyncIterable[T], timeout: float | None = None) -> AsyncItems[T]:
    """Goes through the items of an asynchronous iterator, such as the messages of a
    subscription: ``for`` in place of ``async for``. Only the calling task waits, for
    each item at most ``timeout`` milliseconds.

        async def count(n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

        items = bridge.asyncio.iterate(count(3), 1000)
        list(items)                         # -> [0, 1, 2]
        items.err                           # -> None

    An error, as ``run`` returns it, ends the items, and is in ``err`` afterwards. An
    exception is raised. After either there are no more items. A generator that the
    program drops before its end is closed in the background.

    Raises TypeError for what isn't an asynchronous iterator.
    """
    scheduler.check_thread()
    if not hasattr(type(source), "__aiter__"):
        hint = f"; run it first, with {_RUN}" if inspect.isawaitable(source) else ""
        raise TypeError(f"{_ITERATE} needs what async for takes, not {type(source).__name__}{hint}")
    if timeout is not None:
        check_timeout(_ITERATE, timeout)
    return AsyncItems(aiter(source), timeout)
