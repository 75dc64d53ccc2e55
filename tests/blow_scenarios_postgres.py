"""As ``blow_scenarios``: what ``silly.bridge.psycopg`` waits for, without a server."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from silly import time
from silly._core import scheduler
from silly._core.tasks import Leaving
from silly.bridge._postgres import ConnectionLock, Operation, _check_wait

from .blow_scenarios import check, scenario
from .blows import Blows, Job, again
from .helpers import turn


@scenario
def connection_locks(blows: Blows) -> None:
    """One task at a time has it, and none that was struck keeps it."""
    lock = ConnectionLock()
    inside: list[int] = []
    had = []

    def work(number: int) -> None:
        for _ in range(3):
            again(lock.acquire)
            inside.append(number)
            check(len(inside) == 1, inside)
            again(time.sleep, 0)
            inside.remove(number)
            had.append(number)
            lock.release()

    for job in [Job(lambda number=number: work(number)) for number in range(3)]:
        job.result()
    check(not lock.locked() and len(had) == 9, had)


@scenario
def operations(blows: Blows) -> None:
    """An operation that was struck goes on where it was."""
    reader, writer = os.pipe()

    def read() -> Generator[Any, Any, bytes]:
        got = b""
        while len(got) < 3:
            check((yield reader, 1) == 1)
            got += os.read(reader, 1)
        return got

    def work() -> None:
        operation = Operation(read())
        check(again(operation.run, "a test") == b"abc")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "exiting", True)
            with pytest.raises(Leaving):
                again(_check_wait, "a test")

    job = Job(work)
    for each in (b"a", b"b", b"c"):
        turn(2)
        os.write(writer, each)
    job.result()
    os.close(reader)
    os.close(writer)
