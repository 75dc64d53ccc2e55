"""The root module."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly._core.result import OK, failure

from .conftest import Logs
from .test_api import PUBLIC
from .test_layers import LAZY

# ---- pcall ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", False, (1, 2), "x"])
def test_pcall_gives_the_result(value: Any) -> None:
    ok, result = silly.pcall(lambda: value)
    assert ok is True
    assert result is value


def test_pcall_passes_the_arguments() -> None:
    assert silly.pcall(max, 1, 3, 2) == (True, 3)


def test_pcall_gives_the_traceback_of_an_exception() -> None:
    def boom(text: str) -> None:
        raise ValueError(text)

    ok, text = silly.pcall(boom, "what went wrong")
    assert ok is False
    assert text.startswith("Traceback (most recent call last)")
    assert "in boom" in text
    assert text.rstrip().endswith("ValueError: what went wrong")


@pytest.mark.parametrize("kind", [GreenletExit, KeyboardInterrupt, SystemExit, type("Leaves", (GreenletExit,), {})])
def test_pcall_lets_ends_pass(kind: type[BaseException]) -> None:
    def end() -> None:
        raise kind

    with pytest.raises(kind):
        silly.pcall(end)


def test_pcall_of_a_non_callable() -> None:
    ok, text = silly.pcall(5)  # type: ignore[arg-type]
    assert ok is False
    assert "TypeError" in text


def test_pcall_blocks_like_anything_else() -> None:
    assert silly.pcall(silly.time.sleep, 1) == (True, None)


# ---- check, Result, Error ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", 0, b"", (), "x", True, 1])
def test_check_gives_the_first_item(value: Any) -> None:
    assert silly.check((value, None)) is value


@pytest.mark.parametrize("value", [None, False])
@pytest.mark.parametrize("err", ["Connection refused (111)", "", None])
def test_check_raises_the_error(value: Any, err: Any) -> None:
    with pytest.raises(silly.Error) as caught:
        silly.check((value, err))
    assert caught.value.args == (err,)


def test_check_of_a_result() -> None:
    assert silly.check(OK) is True
    with pytest.raises(silly.Error, match="no luck"):
        silly.check(failure("no luck"))


def test_check_takes_pairs_only() -> None:
    with pytest.raises(ValueError):
        silly.check(("a", None, None))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        silly.check(5)  # type: ignore[arg-type]


def test_an_error_is_an_exception() -> None:
    assert issubclass(silly.Error, Exception)
    assert str(silly.Error("text")) == "text"


def test_a_result_unpacks_and_is_as_true_as_its_first_item() -> None:
    ok, err = OK
    assert (ok, err) == (True, None)
    assert OK
    bad = failure("closed")
    ok, err = bad
    assert (ok, err) == (False, "closed")
    assert not bad
    assert isinstance(bad, silly.Result)
    assert isinstance(bad, tuple)
    assert bad == (False, "closed")
    assert (bad[0], bad[1], len(bad)) == (False, "closed", 2)
    assert repr(bad) == "Result(False, 'closed')"
    assert repr(OK) == "Result(True, None)"


def test_success_is_one_shared_object() -> None:
    chan = silly.sync.channel.new()
    assert chan.push(1) is chan.push(2)


# ---- genid, pid, version ----------------------------------------------------------------------------------------


def test_genid_never_gives_a_number_twice() -> None:
    got: list[int] = []

    def body() -> None:
        for _ in range(1000):
            got.append(silly.genid())

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 4000
    assert all(isinstance(number, int) and number > 0 for number in got)


def test_pid_and_version() -> None:
    assert silly.pid == os.getpid()
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?\S*", silly.version)


# ---- Limits -----------------------------------------------------------------------------------------------------

LIMITS = [field.name for field in dataclasses.fields(silly.Limits)]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_can_be_set(name: str) -> None:
    limits = silly.Limits(**{name: 12345})
    assert getattr(limits, name) == 12345
    default = silly.Limits()
    others = [other for other in LIMITS if other != name]
    assert [getattr(limits, other) for other in others] == [getattr(default, other) for other in others]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, None, 1.5, "1", float("inf"), True])
def test_a_limit_must_be_a_positive_int(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        silly.Limits(**{name: value})


def test_limits_have_the_design_s_defaults() -> None:
    limits = silly.Limits()
    assert limits.message == 2**20
    assert (limits.fragments, limits.most_fragments) == (0, 4096)
    assert (limits.head, limits.header_lines, limits.line) == (65536, 128, 8192)
    assert (limits.head_timeout, limits.idle_timeout, limits.body_timeout) == (10_000, 75_000, 30_000)
    assert limits.body == 16 * 2**20
    assert (limits.handshake_timeout, limits.close_timeout) == (10_000, 10_000)


@pytest.mark.parametrize(("message", "fragments"), [(1, 1024), (2**18, 1024), (2**20, 4096), (2**24, 65536)])
def test_fragments_follow_the_message_limit(message: int, fragments: int) -> None:
    assert silly.Limits(message=message).most_fragments == fragments
    assert silly.Limits(message=message, fragments=7).most_fragments == 7


def test_limits_cannot_be_changed_or_given_by_position() -> None:
    limits = silly.Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.message = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        silly.Limits(5)  # type: ignore[misc]
    with pytest.raises(TypeError):
        silly.Limits(mesage=5)  # type: ignore[call-arg]


# ---- run and exit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["0", 1.5, None, []])
def test_exit_refuses_an_invalid_status(status: Any) -> None:
    with pytest.raises(TypeError, match="status"):
        silly.exit(status)


@pytest.mark.parametrize("main", [5, "main", []])
def test_run_refuses_a_non_callable(main: Any) -> None:
    with pytest.raises(TypeError, match="function"):
        silly.run(main)
    assert silly.task.readycount() == 0


def test_run_with_nothing_to_do_returns() -> None:
    assert silly.run() is None
    assert silly.run() is None


def test_run_returns_when_no_task_is_left() -> None:
    order: list[str] = []

    def main() -> None:
        order.append("main")
        silly.task.fork(child)
        silly.time.after(1, order.append, "timer")

    def child() -> None:
        silly.time.sleep(2)
        order.append("child")

    silly.run(main)
    assert sorted(order) == ["child", "main", "timer"]
    silly.run(lambda: order.append("again"))
    assert order[-1] == "again"


def test_run_inside_a_task_forks_and_returns_at_once() -> None:
    order: list[str] = []

    def outer() -> None:
        silly.run(lambda: order.append("inner"))
        silly.run()
        order.append("outer")

    silly.run(outer)
    assert order == ["outer", "inner"]


def test_an_exception_in_main_is_logged_and_run_returns(logs: Logs) -> None:
    logs.expect(r"ERROR exception in <task \S*boom[\s\S]*ZeroDivisionError")

    def boom() -> None:
        1 / 0

    assert silly.run(boom) is None


# ---- submodules -------------------------------------------------------------------------------------------------


def child(code: str) -> str:
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "name", ["task.fork", "time.sleep", "logger.info", "env.get", "errno.EOF", "sync.channel.new", "net.tcp.listen"]
)
def test_submodules_load_on_first_use(name: str) -> None:
    module = "silly." + name.rpartition(".")[0]
    # errno: the core needs it itself
    code = f"import silly, sys; print({module!r} in sys.modules); print(silly.{name} is not None)"
    out = child(code).split()
    assert out[1] == "True"
    assert out[0] == "False" or name.startswith("errno")


def test_tcp_does_without_http() -> None:
    """A program that only speaks TCP doesn't pay for loading it."""
    loaded = set(child("import silly.net.tcp, sys; print(*sys.modules)").split())
    assert not loaded & {"http", "silly.net.http", "silly._wire.accelerated_http", "silly._wire.header", "silly._wire.http1"}


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.rpartition(".")[0] in LAZY and name != "silly.ops"])
def test_the_package_names_every_public_module(name: str) -> None:
    """In ``__getattr__`` and for type checkers; else it is there only after somebody has imported it.

    ``silly.ops`` is the launcher's."""
    parent, _, child = name.rpartition(".")
    package = importlib.import_module(parent)
    assert package.__file__ is not None
    assert package.__getattr__(child) is importlib.import_module(name)
    assert f" import {child} as {child}\n" in Path(package.__file__).read_text()


def test_a_module_and_its_lazy_attribute_are_the_same() -> None:
    import silly.net.tcp
    import silly.sync.channel

    assert silly.net.tcp is sys.modules["silly.net.tcp"]
    assert silly.sync.channel is sys.modules["silly.sync.channel"]


@pytest.mark.parametrize("module", [silly, silly.net, silly.sync])
def test_an_unknown_name_raises_attributeerror(module: Any) -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        module.nonsense
    assert not hasattr(module, "_nonsense")
