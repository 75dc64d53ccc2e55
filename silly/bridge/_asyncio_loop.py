"""The loop of asyncio that ``bridge.asyncio`` runs coroutines on, and what runs it.

It runs in a greenlet that is no task. Its selector asks without waiting. Where it would
wait, the greenlet switches back to silly's loop, which resumes it when the selector's
own descriptor is ready (epoll nests), at its next timer, or in the next turn. So each
round of asyncio's callbacks is one callback of silly's loop.

No task runs in a coroutine, so a call of silly that waits raises RuntimeError there.
While silly's loop or a task runs, asyncio's *running loop* is what it was before, and
so are the thread's hooks for asynchronous generators: ``asyncio.run`` works in a task.
"""

from __future__ import annotations

import asyncio
import atexit
import selectors
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

from greenlet import GreenletExit, getcurrent, greenlet

from .._core import scheduler
from .._core.loop import READ, QuietHandler, monotonic
from .._core.tasks import READY, RUN, WAIT
from .._core.timers import Timer
from .._log import task as logger
from .._shown import cut, name_of

__all__ = ["Host", "begin", "end_by", "present"]

_Ts = TypeVarTuple("_Ts")

_NEAR = 1e-5
"""Seconds by which a timer of silly's may differ from asyncio's: that one is computed
some instructions earlier, each time."""
_loop = scheduler.loop


class _Selector(selectors.DefaultSelector):
    """The selector of asyncio's loop."""

    def __init__(self) -> None:
        super().__init__()
        self.wait: Callable[[float | None], bool] = lambda timeout: True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(0) if self.wait(timeout) else []


class _Loop(asyncio.SelectorEventLoop):
    """Asyncio's loop. What a task does to it, such as setting the result of a future,
    resumes it."""

    left_to_parent = False
    """Whether this is its copy in a child of ``os.fork``. It is never closed there,
    which would change the set of the selector: the parent shares that."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self.resume: Callable[[], None] = lambda: None

    def time(self) -> float:
        return monotonic()

    def call_soon(self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        self.resume()
        return handle

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        self.resume()
        return handle

    def close(self) -> None:
        if not self.left_to_parent:
            super().close()

    def __del__(self, *args: Any) -> None:
        if not self.left_to_parent:
            super().__del__(*args)


class Host(QuietHandler):
    """Runs asyncio's loop. A handler of silly's loop: see ``Handler`` there. It counts
    as something that can wake a task while one waits in ``run``."""

    where = "in a coroutine of asyncio; await asyncio's own calls there, or start a task with task.fork"

    def __init__(self) -> None:
        selector = _Selector()
        self.asyncio = _Loop(selector)
        self.calls = 0
        """How many tasks wait in ``run``."""
        self.given_up: set[asyncio.Task[None]] = set()
        """Those that were cancelled because their task waits no more, and have not
        ended. ``loop.work`` counts them too."""
        self.watched: int | None = None
        """For the loop: see ``Watched`` there."""
        self.fd = selector.fileno()
        """The selector's own descriptor."""
        self._selector = selector
        self._green = greenlet(self._run_forever, scheduler.hub)
        self._status = WAIT
        """``RUN``: asyncio's code runs. ``READY``: it will, in silly's next turn.
        ``WAIT``: its selector waits."""
        self._came = True
        """Whether the selector's descriptor was ready since the selector looked."""
        self.timer: Timer | None = None
        """See ``Guest`` in ``scheduler``."""
        self._running: asyncio.AbstractEventLoop | None = None
        """What asyncio's running loop is in the greenlet. This and the next are state
        of the thread: set when it is resumed, and taken back when it waits."""
        self._hooks: tuple[Any, Any] = (None, None)
        """The hooks for asynchronous generators there."""
        self._end: asyncio.Task[None] | None = None
        """What ends the coroutines, once the process is ending."""
        selector.wait = self._wait
        self.asyncio.resume = self.resume
        _loop.register(self.fd, READ, self._on_event)
        _loop.handlers.add(self)
        scheduler.guests.append(self)

    def __repr__(self) -> str:
        return f"asyncio's loop, with {len(self.coroutines())} coroutines"

    def coroutines(self) -> set[asyncio.Task[Any]]:
        """Returns those that have not ended."""
        return asyncio.all_tasks(self.asyncio)

    def files(self) -> tuple[int, ...]:
        """Returns its descriptors: the selector's, and two that wake it."""
        return self.fd, self.asyncio._ssock.fileno(), self.asyncio._csock.fileno()  # type: ignore[attr-defined]

    @staticmethod
    def name(coroutine: asyncio.Task[Any]) -> str:
        """Returns what the log calls a coroutine."""
        name = coroutine.get_name()
        return name_of(coroutine.get_coro()) if name.startswith("Task-") else cut(name)  # asyncio's own names say nothing

    def ends(self) -> bool:
        """Whether it cancels its coroutines, since the process is ending."""
        return self._end is not None

    def give_up(self, left: asyncio.Task[None]) -> None:
        """No task waits for a coroutine any more. The end of the process does."""
        self.given_up.add(left)
        _loop.work += 1

    def ended(self, left: asyncio.Task[None]) -> None:
        """A coroutine that was given up has ended."""
        if left in self.given_up:
            self.given_up.discard(left)
            _loop.work -= 1

    # ---- its greenlet ----------------------------------------------------------------

    def _run_forever(self) -> None:
        """What the greenlet runs, until ``_gone``."""
        while self in _loop.handlers:
            try:
                self.asyncio.run_forever()
            except GreenletExit:
                return
            except (SystemExit, KeyboardInterrupt) as exc:
                end_by(exc)  # asyncio lets these through; its loop goes on
            except BaseException as exc:
                logger.dropped("exception in asyncio's loop:", exc)
                self._wait(0)

    def _wait(self, timeout: float | None) -> bool:
        """Switches to silly's loop until the selector should look, or ``timeout``
        seconds are over. Returns whether the selector's descriptor is ready."""
        if self not in _loop.handlers:
            raise GreenletExit  # aborted in other code, which has caught that; or this is a child of os.fork
        if timeout is not None and timeout <= 0:
            self._status = READY
            _loop._posted.append((self._switch, ()))  # silly's loop runs, so it needs no wake-up
        else:
            self._status = WAIT
            self._set_timer(timeout)
        parent = self._green.parent
        assert parent is not None
        parent.switch()
        came, self._came = self._came, False
        return came

    def _set_timer(self, timeout: float | None) -> None:
        timer = self.timer
        when = None if timeout is None else monotonic() + timeout
        if timer is not None:
            if when is not None and abs(timer.when - when) < _NEAR:
                return
            _loop.timers.cancel(timer)
            self.timer = None
        if when is not None:
            self.timer = _loop.timers.add(when, self._on_timer, internal=True)

    def resume(self) -> None:
        """Makes the selector look in silly's next turn, if it waits."""
        if self._status is WAIT:
            self._status = READY
            if _loop.current is None:
                _loop.post(self._switch)
            else:
                _loop._posted.append((self._switch, ()))  # as a task runs, silly's loop looks before it waits

    def _on_event(self, mask: int) -> None:
        self._came = True
        if self._status is WAIT:
            self._switch()

    def _on_timer(self, _: None) -> None:
        self.timer = None
        if self._status is WAIT:
            self._switch()

    def _switch(self) -> None:
        """Runs a round of asyncio. Called by silly's loop, in whatever greenlet that
        runs."""
        if not self._green.dead:
            self._status = RUN
            self._enter(self._green.switch)

    def _enter(self, switch: Callable[[], object]) -> None:
        """Switches to the greenlet, until it waits or is over."""
        running, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self._running)
        sys.set_asyncgen_hooks(*self._hooks)
        self._green.parent = getcurrent()
        try:
            switch()
        finally:
            self._running, self._hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
            asyncio._set_running_loop(running)
            sys.set_asyncgen_hooks(*hooks)

    # ---- what silly's loop asks ------------------------------------------------------

    def outside(self) -> bool:
        """Whether it waits for a descriptor other than the one that wakes it."""
        # None once it is closed: the watchdog's thread may ask then.
        return len(self._selector.get_map() or ()) > 1

    def runs(self) -> bool:
        """See ``Guest`` in ``scheduler``."""
        return getcurrent() is self._green

    def may_wake(self) -> bool:
        """See ``Guest``. Threads are looked for elsewhere."""
        return self.timer is not None or self.outside()

    def wakes(self) -> bool:
        """See ``Handler``."""
        return self.calls > 0

    def close(self) -> None:
        """Cancels the coroutines that are left, and ends the loop after them."""
        if self._end is None and self in _loop.handlers:
            _loop.work += 1
            self._end = asyncio.Task(self._end_all(), loop=self.asyncio)  # not by the application's factory

    async def _end_all(self) -> None:
        while left := self.coroutines() - {self._end}:
            for each in left:
                if not each.cancelling():  # a second time would strike in its ``finally`` blocks
                    each.cancel()
            for exc in await asyncio.gather(*left, return_exceptions=True):
                if isinstance(exc, BaseException) and not isinstance(exc, asyncio.CancelledError):
                    logger.dropped("exception in a coroutine that the end of silly has cancelled:", exc)
        await self.asyncio.shutdown_asyncgens()
        _loop.post(self.abort)

    def abort(self) -> None:
        """Ends the loop at once."""
        if self not in _loop.handlers:
            return
        for each in self.coroutines():
            if each is not self._end:
                logger.warn(f"the coroutine {self.name(each)} did not end before silly did")
            each._log_destroy_pending = False  # type: ignore[attr-defined]
        self._gone()
        self._enter(lambda: self._green.throw(GreenletExit))
        self.asyncio.close()

    def disown(self) -> None:
        """See ``Handler``."""
        # If a coroutine forked, the others of its round would run here too.
        for handle in self.asyncio._ready:  # type: ignore[attr-defined]
            handle.cancel()
        self.asyncio.left_to_parent = True
        self._selector.close()
        scheduler.guests.remove(self)
        _forget(self)

    def _gone(self) -> None:
        """Takes everything of it out of silly's loop."""
        _loop.unregister(self.fd)
        _loop.forget(self)
        if self.timer is not None:
            _loop.timers.cancel(self.timer)
        _loop.work -= len(self.given_up) + (self._end is not None)
        self.given_up.clear()
        scheduler.guests.remove(self)
        _forget(self)


_host: Host | None = None


def present() -> Host | None:
    """Returns the host of asyncio's loop, if there is one."""
    return _host


def begin() -> Host:
    """Returns the host of asyncio's loop, and starts it if there is none."""
    global _host
    if _host is None or _host.ends():
        _host = Host()
    return _host


def _forget(host: Host) -> None:
    global _host
    if _host is host:
        _host = None


def _at_exit() -> None:
    """At the end of a plain script: coroutines end while silly's loop still turns.
    ``ending`` turns it after this."""
    if _host is not None and not scheduler.in_child:
        _host.close()


atexit.register(_at_exit)


def end_by(exc: BaseException) -> None:
    """Gives silly's loop a SystemExit or KeyboardInterrupt that no task waits for."""
    _loop.post(_loop.interrupted, exc)
