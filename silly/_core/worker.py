"""Worker threads for calls that block the operating system's thread: ``getaddrinfo``.

At most ``MAX_THREADS`` threads start when there is work, and end after ``IDLE`` seconds
without work. They are daemons, so a name server that doesn't answer never delays the
end of the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from .loop import Loop

MAX_THREADS = 8
"""More threads than cores, since look-ups wait on the network; few enough to be
cheap."""
IDLE = 10.0


class Job:
    """A submitted call. While its result is awaited it keeps the process alive."""

    __slots__ = ("_loop", "args", "awaited", "done", "func")

    def __init__(
        self, loop: Loop, func: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], None]
    ) -> None:
        self._loop = loop
        self.func = func
        self.args = args
        self.done = done
        self.awaited = True
        loop.work += 1

    def give_up(self) -> None:
        """The result is no longer awaited: the end of the process does not wait for
        it."""
        if self.awaited:
            self.awaited = False
            self._loop.work -= 1

    def finished(self, result: Any, exc: BaseException | None) -> None:
        """Runs in the loop's thread."""
        self.give_up()
        self.done(result, exc)

    def post(self, result: Any, exc: BaseException | None) -> None:
        """Runs in the worker's thread."""
        self._loop.post(self.finished, result, exc)


_jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
_lock = threading.Lock()
_threads = 0
_unfinished = 0
"""How many jobs are queued or running. (A count of idle threads would include one that
is just taking a job.)"""


def submit(
    loop: Loop, func: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], None]
) -> Job:
    """Runs ``func(*args)`` in a worker thread, then ``done(result, exception)`` in the
    loop's thread. With fewer threads than jobs the jobs wait.

    Raises RuntimeError if the system refuses even one thread.
    """
    global _threads, _unfinished
    job = Job(loop, func, args, done)
    with _lock:
        _unfinished += 1
        start = _unfinished > _threads and _threads < MAX_THREADS
        if start:
            _threads += 1
        _jobs.put(job)
    if not start:
        return job
    try:
        threading.Thread(target=_work, name="silly-worker", daemon=True).start()
    except RuntimeError:
        with _lock:
            _threads -= 1
            if _threads:
                return job
            _jobs.get()
            _unfinished -= 1
        job.give_up()
        raise
    return job


def _work() -> None:
    global _threads, _unfinished
    while True:
        try:
            job = _jobs.get(timeout=IDLE)
        except queue.Empty:
            with _lock:
                if not _jobs.empty():
                    continue
                _threads -= 1
            return
        result: Any = None
        failed: BaseException | None = None
        try:
            result = job.func(*job.args)
        except BaseException as exc:
            failed = exc
        with _lock:
            _unfinished -= 1
        job.post(result, failed)
        del job, result, failed
