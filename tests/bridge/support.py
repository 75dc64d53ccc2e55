"""What the tests of ``bridge.socket`` share."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from silly import task
from silly._core import descriptor as core
from silly._core import scheduler

from ..net.support import until
from ..test_task import settle

WITHIN = 10_000
"""Milliseconds that only a test that fails waits."""
loop = scheduler.loop


@pytest.fixture(params=["edge", "level"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How descriptors are registered: for good, or for each wait."""
    if request.param == "level":
        monkeypatch.setattr(core, "EDGE", 0)
    elif not core.EDGE:
        pytest.skip("this system has no edge-triggering")
    yield request.param
    until(lambda: core._records == {})


def waiting(func: Callable[..., Any], *args: Any) -> task.Task[Any]:
    """A task that waits in ``func(*args)``."""
    t = task.fork(func, *args)
    settle()
    assert not t.done
    return t


def outcome(t: task.Task[Any]) -> Any:
    """What the task's function has returned; raises what it has raised."""
    value, err = t.join(WITHIN)
    assert err is None, (err, t.waiting())
    return value


def tell(call: Callable[[], object]) -> tuple[str, Any]:
    """How a call ends by a time-out or so: what sockets of the standard library tell too."""
    try:
        return "returned", call()
    except OSError as exc:
        return type(exc).__name__, exc.errno


@contextmanager
def threaded(serve: Callable[[socket.socket], object], count: int = 1) -> Iterator[tuple[str, int]]:
    """The address of a server of the standard library, which serves ``count`` connections, each in a thread of its own. The
    block ends when all were served."""
    failures: list[BaseException] = []

    def run(sock: socket.socket) -> None:
        try:
            with sock:
                serve(sock)
        except BaseException as exc:
            failures.append(exc)

    def accept() -> None:
        threads = []
        for _ in range(count):
            sock, _ = listener.accept()
            sock.settimeout(WITHIN / 1000)
            threads.append(threading.Thread(target=run, args=(sock,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(WITHIN / 1000)

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        listener.settimeout(WITHIN / 1000)
        server = threading.Thread(target=accept, daemon=True)
        server.start()
        yield listener.getsockname()
        value, err = task.thread(server.join, WITHIN / 1000)
        assert (value, err, failures) == (None, None, [])
