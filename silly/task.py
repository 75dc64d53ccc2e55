"""Tasks: functions that run side by side and may block.

    def greet(name):
        time.sleep(100)
        print("hello", name)            # -> hello world

    task.fork(greet, "world")
    silly.run()

``fork`` queues a function, and the caller goes on. Tasks run one at a time, each until
it waits. Between two calls that wait no other task runs, so plain data needs no locks.
``docs/tasks.md`` says of each call whether it may wait, and shows what tasks are good
for.

``fork`` and ``wakeup`` append to one queue, first in, first out. An exception ends only
its own task, and is logged with its traceback (see also ``onerror``). Each task starts
with a copy of the context variables of the task that forked it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar

from greenlet import GreenletExit

from ._core import joining as _joining  # noqa: F401 - Task.join needs it
from ._core import scheduler
from ._core.callers import check_timeout
from ._core.cancelling import Shield
from ._core.result import returns_pair
from ._core.tasks import Cancelled, Task
from ._core.unswitching import NoSwitch
from ._wire.numbers import check_int

if TYPE_CHECKING:
    from ._core.group import Group as Group
    from ._core.mapping import Results as Results
    from ._core.select import Selectable

__all__ = [
    "Cancelled",
    "Task",
    "call",
    "fork",
    "group",
    "hook",
    "inspect",
    "map",
    "no_switch",
    "onerror",
    "post",
    "readycount",
    "running",
    "select",
    "shield",
    "status",
    "thread",
    "threads",
    "wait",
    "wakeup",
]

P = ParamSpec("P")
A = TypeVar("A")
S = TypeVar("S", bound="Selectable")
T = TypeVar("T")

_WAIT = "task.wait"
_loop = scheduler.loop


class Inspection(TypedDict):
    """What ``inspect`` says about a task."""

    name: str
    status: str
    waits: str
    forked: str
    traceback: str


def fork(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
    """Starts ``func`` as a task, after the tasks that are ready now, and returns the
    task.

        def greet(name, mark="!"):
            print("hello", name + mark)     # -> hello world!

        task.fork(greet, "world")

    ``func`` is called with all the arguments that follow it. ``fork`` also works as a
    decorator of a function without arguments. ``Task.join`` waits for the end and the
    result, ``Task.cancel`` ends the task.

    Raises TypeError if ``func`` can't be called, and RuntimeError in a thread that is
    not the loop's.
    """
    if not callable(func):
        raise TypeError(f"task.fork needs a function, not {type(func).__name__}")
    frame = sys._getframe(1)
    return scheduler.fork(func, args, kwargs or None, frame.f_code, frame.f_lasti)


@returns_pair("task.thread", "value")
def thread(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> tuple[T, None] | tuple[None, str]:
    """Calls ``func(*args, **kwargs)`` in another thread, and returns
    ``(result, None)``. Only the calling task waits. It is for what blocks: a driver of
    a database, a slow disk, a long computation in C.

        rows, err = task.thread(sorted, [3, 1, 2])      # -> ([1, 2, 3], None)

    What ``func`` raises is raised here. It runs with a copy of the task's context
    variables, and with no task: calls of silly raise RuntimeError there, except
    ``task.call``, ``task.post`` and ``silly.logger``.

    A ``time.deadline`` bounds it: ``(None, "task.thread: the deadline of 100 ms ran
    out")``. Then, as after a ``Task.cancel``, ``func`` is not called if it had not
    begun. If it had, it goes on, since nothing can stop a thread; its result is
    dropped, an exception logged. The end of the process doesn't wait for it either:
    ``(None, errno.CLOSED)`` when nothing waits any more.

    At most 64 functions run at a time (``task.threads``), and others wait for their
    turn. ``err`` also says if the system refuses to start a thread.

    Raises TypeError if ``func`` can't be called, and RuntimeError where no task runs.
    """
    if not callable(func):
        raise TypeError(f"task.thread needs a function, not {type(func).__name__}")
    from ._core import threads

    return threads.thread(func, args, kwargs)  # type: ignore[return-value]


def threads(most: int | None = None) -> int:
    """Sets how many threads ``task.thread`` may use, from 1 to 1,024, and returns how
    many it was before. The number is 64 at first.

        before = task.threads(100)          # -> 64
        task.threads(before)                # -> 100
        task.threads()                      # -> 64

    With more threads than that under way none starts, and each ends when its function
    has returned. Threads without work end after 10 s. Other threads, such as those of
    look-ups and of ``silly.hive``, aren't counted.

    Raises ValueError for a number out of these bounds, and TypeError for anything but
    an int.
    """
    from ._core import threads

    return threads.threads(most)


def post(func: Callable[..., object], /, *args: Any) -> bool:
    """Starts ``func(*args)`` as a task, from any thread, signal handler or finalizer.
    Never waits. Returns False if the process ends and the task can't start any more, or
    in a child of ``os.fork``.

        import threading

        def work():
            task.post(chan.push, "from a thread")

        threading.Thread(target=work).start()
        chan.pop()                          # -> ("from a thread", None)

    The task starts in the loop's next turn, with a copy of the context variables of the
    code that has posted it. What one thread posts starts in that order. An exception of
    ``func`` is logged as that of any task. If the end of the process begins after
    ``post`` has returned True, the task may not start.

    Raises TypeError if ``func`` can't be called.
    """
    if not callable(func):
        raise TypeError(f"task.post needs a function, not {type(func).__name__}")
    from ._core import threads

    frame = sys._getframe(1)
    return threads.post(func, args, frame.f_code, frame.f_lasti)


def call(func: Callable[..., T], /, *args: Any) -> T:
    """Calls ``func(*args)`` as a task, and waits for its result in this thread, which
    is not silly's own.

        def work():
            item, err = task.call(chan.pop)
            return item.upper()

        chan.push("text")
        task.thread(work)                   # -> ("TEXT", None)

    What ``func`` raises is raised here. The task has a copy of this thread's context
    variables. To bound the time use ``time.deadline`` in ``func``.

    Raises ``silly.Error`` if there is no result: the task was cancelled, or the process
    ends; then the call returns within a quarter of a second, and never hangs. Raises
    RuntimeError in silly's own thread, which would wait for ever, and in a child of
    ``os.fork``, and TypeError if ``func`` can't be called.
    """
    if not callable(func):
        raise TypeError(f"task.call needs a function, not {type(func).__name__}")
    from ._core import threads

    frame = sys._getframe(1)
    return threads.call(func, args, frame.f_code, frame.f_lasti)  # type: ignore[no-any-return]


def shield() -> Shield:
    """Puts off a cancel of the current task in a ``with`` block.

        with task.shield():
            time.sleep(1)                   # a cancel strikes after the block

    A ``Task.cancel`` that comes in the block strikes where the task next waits after
    it. Deadlines and the end of the process are not put off. Blocks nest.

    Entering raises RuntimeError where no task runs.
    """
    return Shield()


def no_switch() -> NoSwitch:
    """Makes sure that no other task runs in a ``with`` block.

        with task.no_switch():
            balance = 100
            balance -= 1                    # a call that may wait: RuntimeError

    A call that may wait raises RuntimeError there, before it does anything, even if it
    need not wait this time. docs/tasks.md says which calls may. Entering raises
    RuntimeError where no task runs.
    """
    return NoSwitch()


def group(limit: int | None = None) -> Group:
    """Starts tasks that end together, in a ``with`` block.

        def square(n):
            time.sleep(10)
            return n * n

        with task.group() as g:
            three, four = g.fork(square, 3), g.fork(square, 4)
        three.join()[0] + four.join()[0]    # -> 25

    The block ends when all tasks that ``g.fork`` has started have ended. At most
    ``limit`` of them run at a time, without one any number. ``g.fork`` never waits: the
    others start later, in the order of forking. A task of the group, or a group inside
    it, may call ``g.fork`` too.

    The first exception of a task or of the block cancels all other tasks, and the block
    where it waits. When all have ended, the exceptions are raised together, as an
    ``ExceptionGroup`` (a ``BaseExceptionGroup``, if one is no ``Exception``). They are
    not logged. A task that was cancelled, alone, is no error, and neither is a pair
    ``(None, err)`` that a function returns: ``silly.check`` makes it an exception.

    All tasks are awaited in any case. What ends the owner of the block from outside
    cancels them, waits for them, and goes on: a cancel as ``Cancelled`` (a second one
    cancels the tasks once more), a ``time.deadline`` around the block as TimeoutError,
    Ctrl-C and the end of the process as themselves. Exceptions of tasks are logged
    then, or raised together with the TimeoutError. A task that goes on for 3 s after
    its cancel is named in the log.

    The type of the group is ``task.Group``, for annotations. Raises ValueError if
    ``limit`` is not an int of at least 1. Entering the block raises RuntimeError where
    no task runs, and in ``task.no_switch``.
    """
    from ._core.group import Group

    if limit is not None:
        check_int("task.group: the limit", limit, 1)
    return Group(limit, sys._getframe(1))


def map(func: Callable[[A], T], items: Iterable[A], limit: int, ordered: bool = True) -> Results[T]:
    """Calls ``func`` for each item, in tasks that run side by side, and returns an
    iterator of the results.

        def double(n):
            time.sleep(10)
            return 2 * n

        [value for value in task.map(double, range(5), 3)]  # -> [0, 2, 4, 6, 8]

    ``items`` may be endless. It is drawn from in the task that asks for the next
    result, never more than ``limit`` items ahead of the results that were taken. So at
    most ``limit`` tasks run, and one of them does not start before the first result is
    asked for. If drawing an item waits, it holds up the results too.

    The results come in the order of the items, or with ``ordered=False`` as the tasks
    end. An exception of ``func`` is raised in the place of its result, and one of
    ``items`` behind the results of the items before it. Any exception that the loop
    gets from here (TimeoutError from a ``time.deadline`` and ``Cancelled`` too) ends
    the results and cancels the tasks that are left, as leaving the loop does. They are
    not awaited, unless the results are a block:

        with task.map(double, range(1000), 10) as results:
            first = next(results)
        # Here no task is left.

    Such a block waits for its tasks as ``task.group`` does. Exceptions of tasks whose
    results nobody takes are logged. Several tasks may ask for results in turn; while
    one waits for the next, another that asks gets RuntimeError.

    The type of the results is ``task.Results``, for annotations. Raises TypeError if
    ``func`` can't be called or ``items`` is not iterable, and ValueError if ``limit``
    is not an int of at least 1.
    """
    from ._core.mapping import Results, Run

    if not callable(func):
        raise TypeError(f"task.map needs a function, not {type(func).__name__}")
    check_int("task.map: the limit", limit, 1)
    return Results(Run(func, iter(items), limit, ordered, sys._getframe(1)))


def wait() -> Any:
    """Blocks until another task calls ``wakeup`` for this one, and returns the result
    that is given there. Raises TimeoutError when a ``time.deadline`` runs out; a
    ``wakeup`` that comes later raises RuntimeError, because the task no longer waits.

        me = task.running()
        task.fork(lambda: task.wakeup(me, "done"))
        task.wait()                         # -> "done"
    """
    if _loop.no_switch:
        scheduler.refuse("task.wait")
    if scheduler.leaving():
        raise GreenletExit
    return scheduler.park(_WAIT)


def wakeup(task: Task, result: Any = None) -> None:
    """Makes a task ready that is blocked in ``wait``, which returns ``result`` there.

    Raises TypeError if ``task`` is not a task, and RuntimeError if it is in any other
    state: that is a bug in the program.
    """
    scheduler.check_thread()
    if not isinstance(task, Task):
        raise TypeError(f"task.wakeup needs a task, not {type(task).__name__}")
    if task._status != scheduler.WAIT:
        raise RuntimeError(f"task.wakeup: {task} does not wait in task.wait")
    if task._what is not _WAIT:
        raise RuntimeError(f"task.wakeup: {task} waits on {task.waiting()}, not in task.wait")
    scheduler.wake(task, result)


@returns_pair("task.select", "which")
def select(*things: S, timeout: float | None = None) -> tuple[S, None] | tuple[None, str]:
    """Waits until one of several things is ready, for at most ``timeout`` milliseconds,
    and returns it: ``(which, None)``. It takes nothing: the next ``read``, ``pop``,
    ``join`` or ``wait`` on ``which`` doesn't wait, unless another task comes first. So
    one task serves a peer in both directions.

        outbox = channel.new()
        outbox.push("hello")
        which, err = task.select(sock, outbox)
        which is outbox                     # -> True
        sock.write(outbox.pop()[0], "text")
        which, err = task.select(sock, outbox)
        which is sock                       # -> True
        sock.read()                         # -> ("hello", "text")

    If several are ready, the first argument wins. A program that must serve all alike
    moves what it got to the end of its list of things.

    What it takes, and when that is ready:

    * a WebSocket: a whole message has come, or a control frame that ``read`` shows; or
      the socket is closed or broken. What comes is parsed at once, so pings are
      answered meanwhile. As with ``read``, a message must keep the limit ``message``,
      and the rest of one that was read in ``pieces`` is dropped.
    * a TCP or TLS connection: a byte has come, or the peer has ended, or it is closed
      or broken. A ``read`` of more than has come waits.
    * a socket of ``udp``: a datagram has come, or an error, or it is closed. Other
      tasks may wait in ``recvfrom`` meanwhile, and get it first.
    * an HTTP stream, in a server or a client: a byte of the peer's body has come, or
      its end, or an error. A request without a body is ready at once; a response is not
      before its head has come. While ``select`` waits, the limits ``body_timeout``,
      ``body_rate`` and ``head_timeout`` hold as in a ``read``. One ``read`` may wait
      after all: that of a request which is sent again, because the server has closed an
      idle connection.
    * a channel: an item is queued, or it is closed.
    * an event: it is set.
    * a task: it has finished. A job in a thread is selected as the task that waits for
      it, ``task.fork(task.thread, func)``. An error that ends a task while ``select``
      watches it is not logged, since its ``join`` raises it.

    Returns ``(None, err)`` if nothing is ready in time; ``err`` is ``"task.select: the
    time-out of 100 ms ran out"``, or the same of a ``time.deadline``. A ``timeout`` of
    0 looks at what has come by now. At the end of the process ``err`` is
    ``errno.CLOSED``.

    Raises RuntimeError if another task reads one of them already; a ``read`` by another
    task raises it while ``select`` waits. Raises TypeError for a thing of another type,
    and ValueError without any thing and for a bad ``timeout``.
    """
    from ._core.select import select

    if timeout is not None:
        check_timeout("task.select", timeout)
    return select(things, timeout)


def running() -> Task:
    """Returns the task that runs now: the caller. The main program counts as one.

        me = task.running()
        task.status(me)                     # -> "RUN"

    Raises RuntimeError where no task runs.
    """
    return scheduler.current()


def status(task: Task) -> str | None:
    """Returns ``"RUN"``, ``"WAIT"``, ``"READY"`` or ``"SLEEP"`` (in ``time.sleep``), or
    None if the task has finished. Raises TypeError if ``task`` is not a task.
    """
    if not isinstance(task, Task):
        raise TypeError(f"task.status needs a task, not {type(task).__name__}")
    return task._status


def readycount() -> int:
    """Returns how many tasks are ready to run."""
    return len(scheduler.loop.ready) + len(scheduler.loop.deferred)


def inspect() -> dict[Task, Inspection]:
    """Returns every task that hasn't finished, each with its name, its status, what it
    waits for, where it was forked, and its stack.

        for each, about in task.inspect().items():
            print(each.name(), "waits on", about["waits"])
    """
    everyone = [*scheduler.tasks]
    if scheduler.main._status != scheduler.RUN or scheduler.loop.current is scheduler.main:
        everyone.append(scheduler.main)
    caller = sys._getframe(1)
    return {task: _inspect(task, caller) for task in everyone}


def _inspect(task: Task, caller: FrameType) -> Inspection:
    green = task._greenlet
    frame = caller if task is scheduler.loop.current else green.gr_frame if green is not None else None
    stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
    return {
        "name": task.name(),
        "status": task._status or "",
        "waits": task.waiting(),
        "forked": task.origin(),
        "traceback": stack,
    }


def hook(create: Callable[[Task], object] | None = None, term: Callable[[Task], object] | None = None) -> None:
    """Calls ``create(task)`` whenever a task is forked, and ``term(task)`` when one
    ends. None removes a hook. ``term`` runs in the task that ends, and must not block.

        ended = []
        task.hook(term=ended.append)
        t = task.fork(lambda: None)
        t.join()
        task.hook()
        ended == [t]                        # -> True

    Raises TypeError if a hook can't be called.
    """
    for name, func in (("create", create), ("term", term)):
        if func is not None and not callable(func):
            raise TypeError(f"task.hook: {name} is a function or None, not {type(func).__name__}")
    scheduler.hook(create, term)


def onerror(func: Callable[[Task, BaseException], object] | None) -> None:
    """Calls ``func(task, exception)`` for each exception that nobody has caught in a
    task, after its log line. None removes the function; there is one at most.

        def report(failed, exc):
            print(type(exc).__name__)       # -> ZeroDivisionError

        task.onerror(report)
        task.fork(lambda: 1 / 0)

    It is called for an exception of a task's function (forked, a timer's, or one that
    serves a connection), of the ``term`` hook, and of an HTTP handler, before the
    answer 500. It is not called for ends
    (KeyboardInterrupt, SystemExit, GreenletExit), nor where no task has failed: in a
    signal handler, in a ``create`` hook, in the main program of a script.

    ``func`` runs in the task that has failed, ``running()``, with its context
    variables, and may block; the task goes on or ends when it returns. What it raises
    is logged, and goes no further. Raises TypeError if ``func`` can't be called.
    """
    if func is not None and not callable(func):
        raise TypeError(f"task.onerror needs a function or None, not {type(func).__name__}")
    scheduler.onerror(func)


_ELSEWHERE = {
    "Pool": "task.group(limit) or task.map",
    "Timeout": "time.deadline",
    "cancel": "t.cancel()",
    "getcurrent": "task.running()",
    "iwait": "task.select",
    "join": "t.join()",
    "joinall": "task.group",
    "kill": "t.cancel()",
    "killall": "t.cancel() for each",
    "sleep": "time.sleep, in milliseconds",
    "spawn": "task.fork",
    "spawn_later": "time.after, in milliseconds",
    "spawn_raw": "task.fork",
    "timeout": "time.deadline",
}
"""What stands for functions of gevent, and for what one expects here."""

if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> Any:
        # The types of what ``group`` and ``map`` return. These modules load when they
        # are first used.
        if name == "Group":
            from ._core.group import Group

            return Group
        if name == "Results":
            from ._core.mapping import Results

            return Results
        ours = f": use {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{ours}")
