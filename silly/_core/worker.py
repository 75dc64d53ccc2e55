"""Worker threads for calls that block the operating system's thread.

Each kind of call has a *pool* of its own, so that one kind can't hold up another:
``lookups`` for ``getaddrinfo``, which waits for name servers, ``files`` for what waits
for a disk, ``calls`` for the functions of ``task.thread``. Each thread of
``silly.hive`` is a pool of one thread. The threads of a pool start when there is work,
and end after ``IDLE`` seconds without any, unless the pool is ``lasting``. They are
daemons, so a name server that doesn't answer never delays the end of the process.

If a job waits for more than ``CROWDED`` seconds, because all threads of its pool are
busy, one line says which jobs those are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

from .._log import task as logger
from .._shown import name_of, traceback_of
from .loop import Loop, monotonic
from .timers import Timer

IDLE = 10.0
CROWDED = 5.0
"""Seconds that a job waits for a thread before a line is logged."""

leave_child: Callable[[BaseException | None], NoReturn] | None = None
"""Called in a child of ``os.fork`` with what the job has raised that forked it.
``child`` sets it there."""

running: dict[Job, Workers] = {}
"""The jobs that run, each with its pool: the one that has run longest first."""
waited_for: set[Job] = set()
"""The jobs that a task waits for."""


class NoThread(RuntimeError):
    """The system refuses to start a thread."""


class WorkerThread(threading.Thread):
    """A thread of a pool."""


class Job:
    """A submitted call. While its result is awaited it keeps the process alive."""

    __slots__ = ("_args", "_failed", "_func", "_loop", "_pool", "_result", "awaited", "done", "since", "who")

    def __init__(
        self,
        pool: Workers,
        loop: Loop,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any, BaseException | None], None],
        who: object = None,
    ) -> None:
        self._pool = pool
        self._loop = loop
        self._func: Callable[..., Any] | None = func
        self._args = args
        self.done = done
        self.who = func if who is None else who
        """The function that the log names."""
        self.since = monotonic()
        """When it was submitted; once it runs, when it began."""
        self.awaited = True
        self._result: Any = None
        self._failed: BaseException | None = None
        loop.work += 1

    def give_up(self) -> None:
        """The result is no longer awaited: the end of the process does not wait for it,
        and if no thread has taken the job yet, none will."""
        if self.let_go():
            self._pool.drop(self)

    def let_go(self) -> bool:
        """As ``give_up``, but the job runs in any case. Returns False if its result was
        not awaited."""
        if not self.awaited:
            return False
        self.awaited = False
        self._loop.work -= 1
        return True

    def run(self) -> None:
        """Calls the function, in a worker's thread, which keeps nothing of it."""
        assert self._func is not None
        try:
            self._result = self._func(*self._args)
        except BaseException as exc:
            # Without this frame, of the library's own thread.
            self._failed = BaseException.with_traceback(exc, getattr(traceback_of(exc), "tb_next", None))
        self._func, self._args = None, ()
        if leave_child is not None:
            leave_child(self._failed)

    def finished(self) -> None:
        """Runs in the loop's thread."""
        self.let_go()  # nothing waits for it any more
        self._pool.relax(self._loop)
        result, self._result = self._result, None
        failed, self._failed = self._failed, None
        try:
            self.done(result, failed)
        finally:
            del failed  # its traceback may come to refer to this frame


class Workers:
    """At most ``most`` threads of the name ``name``, and the jobs that wait for one.
    ``what`` is the public name of the pool. ``lasting``: its threads don't end for want
    of work."""

    def __init__(self, name: str, most: int, what: str, lasting: bool = False) -> None:
        self.name = name
        self.most = most
        self._what = what
        self._lasting = lasting
        self._guard = threading.RLock()
        """Guards the fields below. A finalizer may give up a job where it is held."""
        self._idle: list[threading.Lock] = []
        """The locks on which idle threads wait. The last one is released first. (A
        Condition would cost as much as the rest of a call.)"""
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        """The jobs that no thread has taken, in their order. Not a deque: one that is
        given up leaves, however many there are."""
        self._threads = 0
        self._running = 0
        """How many jobs run. The other threads take a job each, now or soon."""
        self._timer: Timer | None = None
        """It calls ``_look``, if jobs wait. The loop's thread alone uses it."""
        self._told = False
        """Whether the line about jobs that wait was logged, and jobs have waited ever
        since."""

    def submit(
        self,
        loop: Loop,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any, BaseException | None], None],
        who: object = None,
    ) -> Job:
        """Runs ``func(*args)`` in a thread, then ``done(result, exception)`` in the
        loop's thread. With fewer threads than jobs the jobs wait. ``who`` is the
        function that the log names, if it isn't ``func``.

        Raises ``NoThread`` if the system refuses even one thread.
        """
        job = Job(self, loop, func, args, done, who)
        with self._guard:
            if not self._jobs:
                self._told = False
            self._jobs[job] = None
            start = self._missing() > 0
            if start:
                self._threads += 1
            else:
                self._ring()
            waits = len(self._jobs) + self._running > self._threads
        if start:
            try:
                self._start()
            except NoThread:
                if not self._threads:
                    job.give_up()
                    raise
                # one of the other threads takes it
        if waits and self._timer is None and not self._told:
            self._look_later(loop, job)
        return job

    def resize(self, most: int) -> None:
        """Sets how many threads there may be. If there are more, those that are idle
        end now, and the others once their job is done.

        Raises ``NoThread`` if the system refuses a thread for a job that waits.
        """
        with self._guard:
            self.most = most
            missing = max(0, self._missing())
            self._threads += missing
            self._ring_all()
        while missing:
            try:
                self._start()
            except NoThread:
                with self._guard:
                    self._threads -= missing - 1
                raise
            missing -= 1

    def keep(self, lasting: bool) -> None:
        """Sets ``lasting``."""
        with self._guard:
            self._lasting = lasting
            self._ring_all()

    def drop(self, job: Job) -> None:
        """Forgets a job, unless a thread has taken it."""
        if leave_child is not None:
            return  # a child has no threads, but maybe the lock of one
        with self._guard:
            self._jobs.pop(job, None)
        self.relax(job._loop)

    def relax(self, loop: Loop) -> None:
        """Sets the timer off if no job waits."""
        if self._timer is not None and not self._jobs:
            loop.timers.cancel(self._timer)
            self._timer = None

    def waiting(self) -> int:
        """Returns how many jobs no thread has taken."""
        return len(self._jobs)

    def threads(self) -> int:
        """Returns how many threads there are."""
        return self._threads

    def under_way(self) -> int:
        """Returns how many jobs run or wait for a thread."""
        return len(self._jobs) + self._running

    def _missing(self) -> int:
        """How many threads more would have something to do, and may be started."""
        return min(self.under_way(), self.most) - self._threads

    def _start(self) -> None:
        """Starts a thread, which ``_threads`` counts already."""
        try:
            WorkerThread(target=self._work, name=self.name, daemon=True).start()
        except RuntimeError as exc:
            with self._guard:
                self._threads -= 1
            raise NoThread(exc) from None

    def _ring(self) -> None:
        """Makes an idle thread, if there is one, look for something to do."""
        if self._idle:
            self._idle.pop().release()

    def _ring_all(self) -> None:
        while self._idle:
            self._ring()

    def _work(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        while True:
            with self._guard:
                if self._threads > self.most:
                    self._threads -= 1
                    self._ring()  # this thread may have been woken for a job
                    return
                lasting = self._lasting
                job = self._jobs.popitem(last=False)[0] if self._jobs else None
                if job is not None:
                    self._running += 1
                else:
                    self._idle.append(bell)
            if job is None:
                if not bell.acquire(timeout=-1 if lasting else IDLE):
                    with self._guard:
                        if bell in self._idle:
                            self._idle.remove(bell)
                            self._threads -= 1
                            return
                    bell.acquire()  # it was released meanwhile
                continue
            job.since = monotonic()
            running[job] = self
            job.run()
            del running[job]
            with self._guard:
                self._running -= 1
            job._loop.post(job.finished)
            del job

    def _look_later(self, loop: Loop, job: Job) -> None:
        """Makes ``_look`` look at ``job`` when that has waited too long."""
        self._timer = loop.timers.add(job.since + CROWDED, self._look, loop, internal=True)

    def _look(self, loop: Loop) -> None:
        """Logs a line if a job has waited for too long. A timer's callback."""
        self._timer = None
        with self._guard:
            count, oldest = len(self._jobs), next(iter(self._jobs), None)
        if oldest is None or self._told:
            return
        now = monotonic()
        if now - oldest.since < CROWDED:
            self._look_later(loop, oldest)
            return
        self._told = True
        longest = next((job for job, pool in list(running.items()) if pool is self), None)
        busy = f"; {name_of(longest.who)} has run for {now - longest.since:.1f} s" if longest is not None else ""
        threads = "its thread is" if self._threads == 1 else f"its {self._threads} threads are"
        calls = "1 call waits" if count == 1 else f"{count} calls wait"
        logger.warn(
            f"{self._what}: {threads} busy, and {calls}; "
            f"the oldest, {name_of(oldest.who)}, has waited for {now - oldest.since:.1f} s{busy}"
        )


def others() -> bool:
    """Whether there is a thread that may start a task (``task.post``): one of the
    application's, or one that runs a job."""
    here = threading.current_thread()
    return bool(running) or any(
        not (thread is here or isinstance(thread, WorkerThread) or thread.name.startswith("silly-"))
        for thread in threading.enumerate()
    )


lookups = Workers("silly-lookup", 64, "look-ups of names")
"""For look-ups of names. Those that hang hold a thread for as long as the system's
resolver waits. A thread that waits costs some KiB."""
files = Workers("silly-worker", 8, "writing of files")
"""For what waits for a disk: more threads than disks, few enough to be cheap."""
calls = Workers("silly-thread", 64, "task.thread")
"""For the functions of ``task.thread``: as many as a server's clients may ask for at a
time of a database, say."""
