"""A plugin of pytest. It is there for tests that ask for it: in the ``conftest.py`` at
the root of the tests

    pytest_plugins = ["silly.testing.plugin"]

or on the command line, ``-p silly.testing.plugin``.

* After each test it checks that tasks, timers, connections, listeners, deadlines and
  open files are as many as before. What is left fails the test. The report names each
  with where it was forked, set or opened.
* ``@pytest.mark.silly_task(timeout=5000)`` runs a test function as a task, for 5,000 ms
  at most, in real time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .._core import cancelling, joining, scheduler  # noqa: F401 - Task.cancel and Task.join need these two
from .._core.callers import place_of
from .._wire.numbers import check_ms
from . import _left

__all__ = ["silly_nothing_left"]

MARK = "silly_task"


class TooLong(Exception):
    """A test with the mark took longer than its time-out."""


def pytest_configure(config: pytest.Config) -> None:
    """Explains the mark to pytest."""
    config.addinivalue_line("markers", f"{MARK}(timeout=5000): runs the test as a task, for that many milliseconds at most")
    _left.record()


@pytest.fixture(autouse=True)
def silly_nothing_left() -> Iterator[None]:
    """Fails a test that leaves a task, a timer, a connection, a listener or a file
    open."""
    before = _left.found()
    yield
    left = _left.left(before)
    if left is not None:
        _left.clean_up()
        pytest.fail(f"left behind:\n{left}", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that has the mark."""
    __tracebackhide__ = True
    mark = pyfuncitem.get_closest_marker(MARK)
    if mark is None:
        return None
    timeout = mark.kwargs.get("timeout", mark.args[0] if mark.args else None)
    check_ms(f"{MARK}: the timeout", timeout, positive=True)
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _run(pyfuncitem.obj, arguments, timeout)
    return True


def _run(func: Callable[..., object], arguments: dict[str, Any], timeout: float) -> None:
    """Runs a test as a task. The time is real even where a test has a virtual clock, so
    a thread counts it. That can't interrupt a task which computes without waiting."""
    __tracebackhide__ = True
    task = scheduler.fork(func, (), arguments, getattr(func, "__code__", None), 0)
    timer = threading.Timer(timeout / 1000, lambda: scheduler.loop.post(_over, task, timeout))
    timer.name, timer.daemon = "silly-test-limit", True
    timer.start()
    try:
        task.join()
    except BaseException:
        task.cancel()  # if it goes on, that is: nothing can wake it, or its time is over
        raise
    finally:
        timer.cancel()


def _over(task: scheduler.Task, timeout: float) -> None:
    """The time of a test is over."""
    if task.done:
        return
    place = place_of(task._greenlet)
    where = f", at {place}" if place else ""
    scheduler.throw_main(TooLong(f"the test takes longer than {timeout:g} ms: it waits on {task.waiting()}{where}"))
