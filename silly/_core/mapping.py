"""``task.map``: calls a function for many items, in tasks, and yields the results.

There are two objects, so that the program may drop the results at any time: the tasks
hold the ``Run``, and only the program holds the ``Results``. The finalizer of that one
stops the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar, cast

from .._log import task as logger
from . import scheduler
from .children import OUTER, Children
from .scheduler import loop
from .tasks import Failure, Task, failure_of

T = TypeVar("T")

_WAIT = "task.map"
_END: Any = object()


class Run(Children):
    """The tasks of a map, and the results that have yet to be taken."""

    __slots__ = (
        "_code",
        "_drawing",
        "_func",
        "_items",
        "_lasti",
        "_limit",
        "_ordered",
        "_stopped",
        "_window",
        "in_block",
        "over",
        "taking",
    )

    def __init__(self, func: Callable[[Any], Any], items: Iterator[Any], limit: int, ordered: bool, frame: FrameType) -> None:
        super().__init__(_WAIT, frame)
        self._func = func
        self._items: Iterator[Any] | None = items
        self._stopped: Failure | None = None
        """The exception of the items' iterator: its place is behind all results."""
        self.in_block = False
        """Whether it is in a ``with`` block, whose end waits for the tasks."""
        self._drawing = True
        """Whether items are drawn: not behind the last one or a failure."""
        self._limit = limit
        self._ordered = ordered
        self._window: deque[Task[Any]] = deque()
        """The tasks whose results have yet to be taken. In order: all of them. Else:
        those that have ended, as they ended."""
        self._code = frame.f_code
        self._lasti = frame.f_lasti
        self.taking = False
        """Whether a task is about to take a result."""
        self.over = False
        """Whether no more results will be taken."""

    def ended(self, task: Task[Any]) -> None:
        """See ``Keeper``."""
        self._left.pop(task, None)
        if task._failure is not None or task._cancelled:
            self._drawing = False
        if not self._ordered:
            self._window.append(task)
        if not self._left or not self._ordered or self._window[0] is task:
            self._waiters.wake_all()

    def draw(self) -> None:
        """Starts tasks for more items, as many as the limit allows."""
        while self._drawing and len(self._window) + (0 if self._ordered else len(self._left)) < self._limit:
            assert self._items is not None
            try:
                item = next(self._items, _END)
            except OUTER:
                raise
            except BaseException as exc:
                self._stopped = failure_of(exc, inner=True)  # this frame holds the run
                item = _END
            if item is _END or self.over:
                self._drawing = False
                return
            task = scheduler.fork(self._func, (item,), None, self._code, self._lasti)
            if task._status is not None:
                task._keeper = self
                self._left[task] = None
            elif not self._ordered:
                self._window.append(task)  # the process ends
            if self._ordered:
                self._window.append(task)

    def take(self) -> Task[Any] | None:
        """Waits for the next result, and returns its task. Returns None behind the last
        one."""
        window = self._window
        while not self.over:
            if window:
                if window[0]._status is None:
                    return window.popleft()
            elif not self._left:
                return None
            self._waiters.wait(_WAIT, None, self._missed)
        return None

    def _missed(self) -> None:
        """Wakes the task that takes if a result has come since it looked: a finalizer
        may run, and wait, between any two steps."""
        window = self._window
        if self.over or (window[0]._status is None if window else not self._left):
            self._waiters.wake_all()

    def finish(self) -> Failure | None:
        """No more results are taken. Returns the exception of the items' iterator, if
        it was not raised yet."""
        stopped, self._stopped = self._stopped, None
        self.over = True
        self._drawing = False
        self._items = None
        return stopped

    def stop(self) -> None:
        """Cancels the tasks, and leaves them to themselves."""
        self.finish()
        for task in self._left:
            task._keeper = None  # what it raises is logged
        self._cancel()
        self._left.clear()
        self._stop_timer()
        self._waiters.wake_all()
        self._log()

    def fail(self) -> None:
        """An exception ends the results: cancels the tasks. A block that waits still
        does so."""
        if self.in_block:
            self.finish()
            self._cancel()
        else:
            self.stop()

    def wait(self, exc: BaseException | None) -> None:
        """Cancels the tasks, and waits for them. ``exc`` is the exception of the block;
        raises one that matters more."""
        self.finish()
        if not self._cancelled:
            self._cancel()  # a second blow would strike in their ``finally`` blocks
        thrown = None
        try:
            thrown = self._await(_WAIT, exc)
            self._log()
            if thrown is not None and thrown is not exc:
                raise thrown
        finally:
            del thrown, exc  # the traceback holds this frame

    def _log(self) -> None:
        """Logs the exceptions that were not raised, since nobody took the results."""
        while self._window:
            failure = self._window.popleft()._failure
            if failure is not None:
                text = f"exception in a task of {self._place}, whose result was not taken:"
                scheduler.report(logger, text, failure.exc)


class Results(Iterator[T], Generic[T]):
    """The results of ``task.map``: an iterator, and a block that waits for the tasks.

        def double(n):
            return 2 * n

        with task.map(double, range(1000), 10) as results:
            for value in results:
                if value > 6:
                    break
        value                               # -> 8

    When the block ends, tasks that are left are cancelled and awaited: see
    ``task.map``.
    """

    __slots__ = ("__weakref__", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        if loop.no_switch:
            scheduler.refuse(_WAIT)
        run = self._run
        if run.taking:
            raise RuntimeError("task.map: another task waits for the next result")
        run.taking = True
        task: Task[T] | None = None
        try:
            run.draw()
            task = run.take()
            if task is None:
                _raise(run.finish())
            return _value(task)
        except StopIteration:
            raise
        except BaseException:
            run.fail()
            raise
        finally:
            run.taking = False
            del task  # the traceback holds this frame

    def close(self) -> None:
        """Cancels the tasks that are left, and does not wait for them. There are no
        more results. What a task raises from now on is logged.

            results = task.map(abs, [-1, -2, -3], 2)
            next(results)                       # -> 1
            results.close()
            list(results)                       # -> []
        """
        scheduler.check_thread(closes=True)
        if not self._run.over:
            self._run.stop()

    def __enter__(self) -> Results[T]:
        if loop.no_switch:
            scheduler.refuse(_WAIT)
        scheduler.current()
        self._run.in_block = True
        return self

    def __exit__(self, kind: object, exc: BaseException | None, tb: object) -> None:
        run = self._run
        if scheduler.in_child or scheduler.closed:
            return
        if loop.current is None or loop.no_switch:
            run.stop()
            scheduler.current()
            scheduler.refuse(_WAIT)
        run.wait(exc)

    def __del__(self, post: Callable[..., object] = loop.post) -> None:
        # A finalizer may run anywhere, in another thread or within the loop's own code,
        # so it only leaves a note.
        run: Run | None = getattr(self, "_run", None)
        if run is not None and not run.over and (run._left or run._window):
            post(run.stop)
            run._items = None  # a generator ends here, as any that is dropped: it can't wait in the loop's code


def _value(task: Task[T]) -> T:
    """Returns the result of a task, or raises its exception."""
    try:
        value, err = task._outcome()
    except StopIteration as exc:
        # As itself it would end the loop over the results.
        raise RuntimeError("task.map: the function has raised StopIteration") from exc
    finally:
        del task  # the traceback holds this frame
    if err is not None:
        raise RuntimeError("task.map: there is no result, because the task of the item was cancelled, or the process ends")
    return cast(T, value)


def _raise(failure: Failure | None) -> NoReturn:
    """Raises the exception of the items' iterator, or ends the iteration."""
    if failure is None:
        raise StopIteration
    try:
        raise failure.restored()
    finally:
        del failure  # the traceback holds this frame
