"""Only KeyboardInterrupt, SystemExit and GreenletExit are ends. Whatever else comes out of the application's
code ends that piece of code alone, also if it is no ``Exception``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import task, time
from silly._core import scheduler
from silly._ends import ENDS
from silly.net import tcp

from ..conftest import Logs
from ..net import tls_support
from ..net.support import until


class Odd(BaseException):
    """As the panic of a module in Rust is."""


ODD = [asyncio.CancelledError, Odd, BaseExceptionGroup]


def raising(kind: type[BaseException]) -> BaseException:
    return kind("odd", [Odd()]) if kind is BaseExceptionGroup else kind("odd")


@pytest.mark.parametrize("kind", ODD)
def test_a_task_that_raises_no_exception_ends_alone(kind: type[BaseException], logs: Logs) -> None:
    logs.expect(rf"ERROR exception in <task .*body.*>:\n(.*\n)*.*{kind.__name__}")
    ran: list[str] = []

    def body() -> None:
        raise raising(kind)

    task.fork(body)
    time.after(0, body)
    task.fork(ran.append, "the next")
    until(lambda: len(logs.lines) == 2)
    assert ran == ["the next"]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_an_accept_handler_that_raises_no_exception_ends_its_connection_alone(
    kind: type[BaseException], secure: bool, logs: Logs
) -> None:
    logs.expect(r"ERROR exception in <task .*(accept|_serve).*>:")

    def accept(conn: Any) -> None:
        word, _ = conn.read(4)
        if word == b"bad\n":
            raise raising(kind)
        conn.write(word)
        conn.close()

    with tls_support.listening(accept) if secure else silly.check(tcp.listen("127.0.0.1:0", accept)) as listener:

        def connect() -> Any:
            return tls_support.connect(listener) if secure else silly.check(tcp.connect(listener.addr))

        with connect() as bad, connect() as good:
            bad.write("bad\n")
            assert bad.read(1, 20_000)[0] is None
            good.write("good")
            assert good.read(4, 20_000) == (b"good", None)


@pytest.fixture
def unhooked() -> Iterator[None]:
    yield
    task.hook()


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("kind", ODD)
def test_hooks_that_raise_no_exception_are_logged(kind: type[BaseException], logs: Logs) -> None:
    logs.expect(r"ERROR exception in the create hook of <task .*append.*>:")
    logs.expect(r"ERROR exception in the term hook of <task .*append.*>:")
    ran: list[str] = []

    def hook(_: task.Task) -> None:
        raise raising(kind)

    task.hook(hook, hook)
    task.fork(ran.append, "it")
    until(lambda: len(logs.lines) == 2)
    assert ran == ["it"]


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize("kind", ENDS)
def test_an_end_in_the_hook_at_a_fork_reaches_the_forker_and_nothing_was_forked(kind: type[BaseException]) -> None:
    def hook(_: task.Task) -> None:
        raise kind

    before = dict(scheduler.tasks)
    task.hook(hook)
    with pytest.raises(kind):
        task.fork(print)
    assert scheduler.tasks == before
    assert not task.readycount()


@pytest.mark.usefixtures("unhooked")
def test_ends_in_the_hook_at_the_end_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do what they do in the task; the task has ended anyway."""
    ends: list[BaseException] = []
    monkeypatch.setattr(scheduler, "system_exit", ends.append)
    for kind in (SystemExit, GreenletExit):

        def hook(_: task.Task, kind: type[BaseException] = kind) -> None:
            raise kind

        task.hook(None, hook)
        one = task.fork(lambda: None)
        until(lambda one=one: task.status(one) is None)
        assert one not in scheduler.tasks
    assert [type(exc) for exc in ends] == [SystemExit]


@pytest.mark.parametrize("kind", [*ODD, ValueError])
def test_pcall_returns_whatever_is_no_end(kind: type[BaseException]) -> None:
    def body() -> None:
        raise raising(kind)

    ok, text = silly.pcall(body)
    assert not ok
    assert kind.__name__ in text
