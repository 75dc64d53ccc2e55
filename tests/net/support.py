"""What the tests of the network share: waiting for a condition, jobs in tasks, raw sockets."""

from __future__ import annotations

import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from greenlet import GreenletExit

from silly import task, time
from silly._core import loop, scheduler
from silly.sync import channel

LOOPBACK = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
"""The name of the loopback's interface."""


def monotonic() -> float:
    """The library's clock, in seconds. An earlier test may have set it ahead of the system's (``testing.clock``)."""
    return loop.monotonic()


def until(condition: Callable[[], object], within: int = 5_000) -> None:
    """Lets the loop turn until ``condition()`` holds. ``within`` only bounds a test that fails."""
    end = time.monotonic() + within
    spins = 0
    while not condition():
        if time.monotonic() > end:  # no assert: python -O drops those of a module that pytest doesn't rewrite
            raise AssertionError("the condition never came true")
        # A loop that never waits would keep the interpreter's lock from the worker threads.
        spins += 1
        time.sleep(0 if spins < 50 else 1)


def turns(count: int = 10) -> None:
    """Lets the loop turn a few times: whatever was under way in the kernel arrives."""
    for _ in range(count):
        time.sleep(0)


def interrupted(func: Callable[[], object], rng: random.Random) -> None:
    """Calls ``func()`` in tasks that are cancelled, 20 times, and then to its end."""
    for _ in range(20):
        job = task.fork(func)
        time.sleep(rng.choice([0, 0, 1, 2]))
        job.cancel()
        job.join()
    func()


class Job:
    """``func()`` in a task of its own."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self._func = func
        self._done = channel.new()
        self.task = task.fork(self._run)

    def _run(self) -> None:
        try:
            self._done.push((self._func(), None))
        except BaseException as exc:
            self._done.push((None, exc))

    def result(self) -> Any:
        """What ``func`` returned, once it has; raises what it raised."""
        (value, exc), _ = self._done.pop()
        if exc is not None:
            raise exc
        return value

    def blocked(self) -> Job:
        """Waits until it waits."""
        until(lambda: task.status(self.task) == "WAIT")
        return self

    def kill(self) -> None:
        """Throws GreenletExit where it waits, as the end of the process does."""
        scheduler.loop.post(scheduler.throw, self.task, GreenletExit())
        try:
            self.result()
        except GreenletExit:
            return
        raise AssertionError("it survived")


def reset_on_close(sock: socket.socket) -> None:
    """Makes the close of ``sock`` a reset (RST) instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def never_answers(family: socket.AddressFamily = socket.AF_INET) -> Iterator[Any]:
    """The address of a listener whose queue is full: the kernel drops new connects."""
    with socket.socket(family) as full, socket.socket(family) as first:
        full.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        select.select([full], [], [])  # until it is in the queue: it may be connected a moment earlier
        yield full.getsockname()


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
