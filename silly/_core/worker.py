"""Worker threads for calls that block the operating system thread, such as ``getaddrinfo``.

Threads start when there is work, at most ``MAX_THREADS``, and end after ``IDLE`` seconds without any; they are daemons,
so a name server that doesn't answer never delays the end of the process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from .loop import Loop

MAX_THREADS = 8
"""Lookups wait on the network, not on the processor: more threads than cores, few enough to be cheap."""
IDLE = 10.0

_Job = tuple[Loop, Callable[..., Any], tuple[Any, ...], Callable[[Any, BaseException | None], None]]
_jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
_lock = threading.Lock()
_threads = 0
_unfinished = 0
"""Jobs queued or running. (Counting idle threads instead would count one that is just taking a job.)"""


def submit(
    loop: Loop, func: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any, BaseException | None], None]
) -> None:
    """Runs ``func(*args)`` in a worker thread, then ``done(result, exception)`` in the loop's.

    Raises RuntimeError when the system refuses the first thread; with fewer threads than jobs the jobs wait.
    """
    global _threads, _unfinished
    loop.work += 1
    with _lock:
        _unfinished += 1
        start = _unfinished > _threads and _threads < MAX_THREADS
        if start:
            _threads += 1
        _jobs.put((loop, func, args, done))
    if not start:
        return
    try:
        threading.Thread(target=_work, name="silly-worker", daemon=True).start()
    except RuntimeError:
        with _lock:
            _threads -= 1
            if _threads:
                return
            _jobs.get()
            _unfinished -= 1
        loop.work -= 1
        raise


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
        loop, func, args, done = job
        result: Any = None
        failed: BaseException | None = None
        try:
            result = func(*args)
        except BaseException as exc:
            failed = exc
        with _lock:
            _unfinished -= 1
        loop.post(_finish, loop, done, result, failed)
        del job, loop, func, args, done, result, failed


def _finish(loop: Loop, done: Callable[[Any, BaseException | None], None], result: Any, exc: BaseException | None) -> None:
    loop.work -= 1
    done(result, exc)
