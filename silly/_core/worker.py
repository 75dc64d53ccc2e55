"""Worker threads for calls that block the operating system's thread.

Each kind of call has a *pool* of its own, so that one kind can't hold up another:
``lookups`` for ``getaddrinfo``, which waits for name servers, and ``files`` for what
waits for a disk. The threads of a pool start when there is work, and end after
``IDLE`` seconds without any. They are daemons, so a name server that doesn't answer
never delays the end of the process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .loop import Loop

IDLE = 10.0


class Job:
    """A submitted call. While its result is awaited it keeps the process alive."""

    __slots__ = ("_loop", "_pool", "args", "awaited", "done", "func")

    def __init__(
        self,
        pool: Workers,
        loop: Loop,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._pool = pool
        self._loop = loop
        self.func = func
        self.args = args
        self.done = done
        self.awaited = True
        loop.work += 1

    def give_up(self) -> None:
        """The result is no longer awaited: the end of the process does not wait for it,
        and if no thread has taken the job yet, none will."""
        if self.awaited:
            self.awaited = False
            self._loop.work -= 1
            self._pool.drop(self)

    def finished(self, result: Any, exc: BaseException | None) -> None:
        """Runs in the loop's thread."""
        self.give_up()  # nothing waits for it any more
        self.done(result, exc)

    def post(self, result: Any, exc: BaseException | None) -> None:
        """Runs in the worker's thread."""
        self._loop.post(self.finished, result, exc)


class Workers:
    """At most ``most`` threads of the name ``name``, and the jobs that wait for one."""

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self._changed = threading.Condition()
        """Guards the fields below, and says that there is a job."""
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        """The jobs that no thread has taken, in their order. Not a deque: one that is
        given up leaves, however many there are."""
        self._threads = 0
        self._running = 0
        """How many jobs run. The other threads take a job each, now or soon."""

    def submit(
        self, loop: Loop, func: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], None]
    ) -> Job:
        """Runs ``func(*args)`` in a thread, then ``done(result, exception)`` in the
        loop's thread. With fewer threads than jobs the jobs wait.

        Raises RuntimeError if the system refuses even one thread.
        """
        job = Job(self, loop, func, args, done)
        with self._changed:
            self._jobs[job] = None
            start = len(self._jobs) + self._running > self._threads and self._threads < self.most
            if start:
                self._threads += 1
            else:
                self._changed.notify()
        if not start:
            return job
        try:
            threading.Thread(target=self._work, name=self.name, daemon=True).start()
        except RuntimeError:
            with self._changed:
                self._threads -= 1
                others = self._threads
            if others:
                return job  # one of them takes it
            job.give_up()
            raise
        return job

    def drop(self, job: Job) -> None:
        """Forgets a job, unless a thread has taken it."""
        with self._changed:
            self._jobs.pop(job, None)

    def waiting(self) -> int:
        """Returns how many jobs no thread has taken."""
        return len(self._jobs)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._jobs, IDLE):
                    self._threads -= 1
                    return
                job, _ = self._jobs.popitem(last=False)
                self._running += 1
            result: Any = None
            failed: BaseException | None = None
            try:
                result = job.func(*job.args)
            except BaseException as exc:
                failed = exc
            with self._changed:
                self._running -= 1
            job.post(result, failed)
            del job, result, failed


lookups = Workers("silly-lookup", 64)
"""For look-ups of names. Those that hang hold a thread for as long as the system's
resolver waits. A thread that waits costs some KiB."""
files = Workers("silly-worker", 8)
"""For what waits for a disk: more threads than disks, few enough to be cheap."""
