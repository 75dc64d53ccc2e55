"""The state of the process, for the log (SIGUSR2), and for other code.

``soon`` lets the loop report, which shows how long it took to come to that. If it
doesn't, because a task holds it, a thread reports, and says who holds it.
"""

from __future__ import annotations

import _thread
import errno
import os
import sys
import threading
from collections import Counter
from time import CLOCK_BOOTTIME, clock_gettime
from typing import NamedTuple

from .._core import ending, scheduler, watchdog
from .._core.callers import place_of
from .._core.loop import monotonic
from .._log import task as logger
from .._shown import cut
from .._version import version

try:
    import resource
except ImportError:  # no Unix
    resource = None  # type: ignore[assignment]

LOOKED_AT = 10_000
"""The most tasks that are looked at: 5 µs each, in which the loop does nothing else."""
GROUPS = 30
"""The most groups of tasks that are listed."""
PATIENCE = 0.5
"""Seconds after which a thread reports in the place of the loop."""

_loop = scheduler.loop


class ProcessState(NamedTuple):
    """The state of this process. A number that the system doesn't tell is None."""

    version: str
    pid: int
    age: float | None
    """Seconds since the process began."""
    phase: str
    memory: int | None
    """Bytes of memory that it has now."""
    descriptors: int | None
    most_descriptors: int | None
    """Its limit of open descriptors."""
    turns: int
    """How often the loop has turned."""
    lagged: float
    """The total seconds of its long turns."""
    listeners: list[str]
    connections: int
    timers: int
    tasks: int
    waits: list[tuple[int, str]]
    """Groups of tasks that are alike, the largest first: how many, and what.
    """


def take() -> ProcessState:
    """Returns the state of this process. May be called in any thread, and in a signal
    handler."""
    now = list(scheduler.tasks)
    groups = Counter(_described(task) for task in now[:LOOKED_AT])
    listeners, connections = _handlers()
    return ProcessState(
        version=version,
        pid=os.getpid(),
        age=started_ago(),
        phase=ending.phase().name.lower(),
        memory=memory(),
        descriptors=_descriptors(),
        most_descriptors=_most_descriptors(),
        turns=_loop.turns,
        lagged=_loop.lagged,
        listeners=listeners,
        connections=connections,
        timers=len(_loop.timers.users),
        tasks=len(now),
        waits=[(count, text) for text, count in groups.most_common(GROUPS)],
    )


def in_words(state: ProcessState) -> str:
    """Returns the lines that the log has of ``state``."""
    age = "" if state.age is None else f", {state.age:.0f} s old"
    memory = "?" if state.memory is None else f"{state.memory / 2**20:.1f} MiB"
    lines = [
        f"state of process {state.pid}{age}: {state.phase}; silly {state.version}, Python {sys.version.split()[0]}",
        f"memory: {memory}; descriptors: {state.descriptors or '?'} of {state.most_descriptors or '?'}",
        f"loop: {state.turns} turns, {state.lagged:.1f} s in long ones; timers: {state.timers}",
        f"connections: {state.connections}; listeners: {len(state.listeners)}",
        *[f"  {listener}" for listener in state.listeners],
        f"tasks: {state.tasks}",
        *[f"  {count} of {text}" for count, text in state.waits],
    ]
    listed = sum(count for count, _ in state.waits)
    if listed < state.tasks:
        lines.append(f"  and {state.tasks - listed} more")
    return "\n".join(lines)


def soon() -> None:
    """Logs the state: in the loop, or in a thread if the loop doesn't turn. Called in a
    signal handler's thread."""
    done = threading.Event()
    since = monotonic()

    def report() -> None:
        if not done.is_set():
            done.set()
            logger.info(f"{in_words(take())}\nthe loop has answered after {(monotonic() - since) * 1000:.1f} ms")

    _loop.post(report)
    if not done.wait(PATIENCE):
        done.set()
        logger.warn(f"{in_words(take())}\nthe loop doesn't answer: {watchdog.holder()}")


def on_signal(number: int, frame: object) -> None:
    """The handler of SIGUSR2."""
    try:
        # Not ``threading.Thread`` here: the signal may have interrupted its code.
        _thread.start_new_thread(_begin, ())
    except RuntimeError:  # the system gives us no thread
        _loop.post(lambda: logger.info(in_words(take())))


def _begin() -> None:
    # Another thread, with a name: to ``worker.others`` it is none of the application's.
    threading.Thread(target=soon, name="silly-state", daemon=True).start()


def _described(task: scheduler.Task) -> str:
    place = place_of(task._greenlet)
    return cut(f"{task.name()}: waits on {task.waiting()}{f', at {place}' if place else ''}")


def _handlers() -> tuple[list[str], int]:
    """Returns the listeners, in words, and the number of connections."""
    module = sys.modules.get("silly.net._listener")
    ours = [] if module is None else [each for each in list(_loop.handlers) if isinstance(each, module._Ending)]
    return sorted(map(repr, ours)), len(_loop.handlers) - len(ours)


def memory(pid: int | str = "self") -> int | None:
    """Returns how many bytes of memory a process has, this one or ``pid``; None if that
    is unknown."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _descriptors() -> int | None:
    for path in "/proc/self/fd", "/dev/fd":
        try:
            return len(os.listdir(path)) - 1  # without the one for the listing
        except OSError as exc:
            if exc.errno == errno.EMFILE:
                return _most_descriptors()
    return None


def _most_descriptors() -> int | None:
    return None if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def started_ago(pid: int | str = "self") -> float | None:
    """Returns how many seconds ago a process began, this one or ``pid``; None if that
    is unknown."""
    stat = stat_of(pid)
    return None if stat is None else clock_gettime(CLOCK_BOOTTIME) - int(stat[19]) / os.sysconf("SC_CLK_TCK")


def stat_of(pid: int | str) -> list[bytes] | None:
    """Returns what proc(5) has of a process in ``stat``, from its state (``R``, ``S``,
    …) on; None if that is unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Its name stands before that, in brackets, and may have any characters.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None
