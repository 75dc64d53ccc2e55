"""docs/tasks.md says of each public call whether it can switch to other tasks. Each one that may is refused within
``task.no_switch``. ``conftest.py`` fails a test in which a call waited that never should (``switches.Watch``)."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import silly
from silly import check, task, time
from silly.net import http, tcp
from silly.sync import channel, pool

from .helpers import raw_server, serving
from .net.support import until
from .switches import ALWAYS, CALLS, MAY, NEVER, PAGE, TABLE, Row, Watch, never_codes, table


def test_the_table_names_each_public_call_once() -> None:
    rows = [name for name, _ in table(PAGE.read_text(), CALLS)]
    assert {"unknown": set(rows) - CALLS.keys(), "missing": CALLS.keys() - set(rows)} == {"unknown": set(), "missing": set()}
    assert sorted(rows) == sorted(set(rows))
    assert all(row.when for row in TABLE.values() if row.says == MAY), "a call that may wait says when"


def test_every_kind_of_call_is_in_the_table() -> None:
    """The names are derived; what is found in each way must be there."""
    found = {name: TABLE[name].says for name in ("task.fork", "time.sleep", "http.get", "tcp.Conn.read", "logger.info")}
    assert list(found.values()) == [NEVER, ALWAYS, MAY, MAY, NEVER]
    assert TABLE["websocket.Socket.__exit__"].says == TABLE["http.ServerStream.pieces().__next__"].says == MAY


# ---- refused within no_switch --------------------------------------------------------


class Untouched:
    """An argument. Whatever a call does with it fails."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} of an argument was used")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of an argument was used")

    def __bool__(self) -> bool:
        raise AssertionError("an argument was looked at")


GIVEN: dict[str, dict[str, Any]] = {
    "http.ServerStream.respond": {"close": True},
    "hive.spawn": {"make": print},
    "silly.run": {"main": None},
    "task.select": {"timeout": None},
    "task.thread": {"func": print},
    "testing.websocket": {"handler": print, "limits": silly.Limits()},
    "websocket.Socket.__exit__": {"kind": None},
}
"""Arguments with which a call may wait, if that depends on them, or whose type it looks at first."""


MADE: dict[str, Callable[[], Any]] = {
    "channel.Channel.__iter__": channel.new,
    "pool.Take.__enter__": lambda: pool.new(lambda: (1, None)).take(),
}
"""Objects for calls that look at a field first. ``bare`` makes the others."""


def bare(owner: type) -> Any:
    """An object of the class, whose fields may be read, but not used."""
    inside = {"__getattr__": lambda self, name: Untouched(), "__del__": lambda self: None, "__slots__": ()}
    kind: Any = type(owner.__name__, (owner,), inside)
    return kind.__new__(kind)


def refused() -> list[str]:
    """The calls that may wait. A block whose begin is refused can't come to its end."""
    names = [name for name, row in TABLE.items() if row.says in (MAY, ALWAYS)]
    return [name for name in names if not name.endswith("__exit__") or name.replace("__exit__", "__enter__") not in names]


@pytest.mark.parametrize("name", refused())
def test_a_call_that_may_wait_is_refused_at_once(name: str) -> None:
    """Before it uses a field of its object, or its arguments."""
    function, owner = CALLS[name]
    args: list[Any] = []
    options: dict[str, Any] = {}
    for each in inspect.signature(function).parameters.values():
        given = GIVEN.get(name, {}).get(each.name, Untouched())
        if owner is not None and not args:
            args.append(MADE[name]() if name in MADE else bare(owner))
        elif each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            args.append(given)
        elif each.kind is each.KEYWORD_ONLY:
            options[each.name] = given
    with task.no_switch(), pytest.raises(RuntimeError, match="no_switch"):
        result = function(*args, **options)
        if inspect.isgenerator(result):
            next(result)


def echo(conn: Any) -> None:
    """A server that sends back what comes."""
    while (got := conn.read(1)[0]) is not None:
        conn.write(got)


def test_a_refused_call_has_done_nothing() -> None:
    """Nothing was sent or taken, though it need not have waited."""
    chan = channel.new()
    chan.push("item")
    with raw_server(echo) as server, check(tcp.connect(server.addr)) as conn:
        conn.write("one\n")
        until(lambda: conn.unreadbytes() == 4)
        with task.no_switch():
            for call in (
                lambda: conn.read("\n"),
                lambda: conn.write("two\n"),
                lambda: conn.write(["two\n"]),
                chan.pop,
                lambda: time.sleep(0),
                lambda: tcp.connect(server.addr),
                lambda: silly.run(print),
            ):
                with pytest.raises(RuntimeError, match=r"^[a-z]+\.[a-z]+: .*task\.no_switch\(\)"):
                    call()
            assert conn.unreadbytes() == 4
        assert chan.pop() == ("item", None)
        assert conn.read("\n") == (b"one\n", None)
        conn.write("three\n")
        assert conn.read("\n") == (b"three\n", None)


def test_a_task_is_refused_too_and_writes_after_it() -> None:
    with raw_server(echo) as server, check(tcp.connect(server.addr)) as conn:

        def body() -> Any:
            for _ in range(2):
                with task.no_switch(), pytest.raises(RuntimeError):
                    conn.write(b"no\n")
                conn.write(b"yes\n")
            return conn.read(8)

        assert task.fork(body).join() == ((b"yes\nyes\n", None), None)


def test_what_never_switches_works_within_the_block() -> None:
    chan = channel.new()
    with raw_server(echo) as server, check(tcp.connect(server.addr)) as conn, task.no_switch():
        one = task.fork(chan.push, "item")
        timer = time.after(60_000, print)
        assert (time.cancel(timer), one.cancel(), len(chan), conn.close()) == (True, True, 0, (True, None))
        assert silly.pcall(int, "1") == (True, 1)


def test_blocks_of_generators_end_in_any_order() -> None:
    def block() -> Iterator[None]:
        with task.no_switch():
            yield

    one, other = block(), block()
    next(one)
    next(other)
    one.close()
    with pytest.raises(RuntimeError, match="no_switch"):
        time.sleep(1)
    other.close()
    time.sleep(1)


def test_another_thread_is_not_concerned() -> None:
    """It gets the error that it gets anywhere, and what it may call works."""
    met: list[str] = []

    def body() -> None:
        with pytest.raises(RuntimeError) as info:
            time.sleep(1)
        met.append(str(info.value))

    with task.no_switch():
        thread = threading.Thread(target=body)
        thread.start()
        thread.join(30)
    assert "another thread" in met[0]


# ---- what conftest.py looks at -------------------------------------------------------


def wrong_in(rows: dict[str, Row], *calls: Any) -> set[str]:
    """What the watch finds if ``rows`` stand in the table."""
    with Watch(never_codes(CALLS, {**TABLE, **rows})) as watch:
        for call in calls:
            call()
    return watch.wrong


def test_the_watch_sees_a_call_that_waits() -> None:
    """From the main program and from a task, at once or through others, by a switch to the loop and to the next task."""
    names = "time.sleep channel.Channel.pop channel.Channel.recv http.get http.Client.get"
    rows = dict.fromkeys(names.split(), Row(NEVER, ""))
    chan = channel.new()
    assert wrong_in(rows, lambda: time.sleep(1)) == {"time.sleep"}
    assert wrong_in(rows, lambda: task.fork(time.sleep, 0).join()) == {"time.sleep"}
    assert wrong_in(rows, lambda: (task.fork(chan.push, 1), chan.pop())) == {"channel.Channel.pop"}
    with serving(lambda stream: stream.answer(200)) as server:
        assert wrong_in(rows, lambda: http.get(f"http://{server.addr}/")) == {"http.get"}
        http.closeidle()


def test_the_watch_is_not_misled() -> None:
    """A function of the program that a call runs may wait, and what others did meanwhile counts for them."""
    rows = {"task.fork": Row(NEVER, ""), "silly.pcall": Row(NEVER, "")}
    assert wrong_in({}, lambda: time.sleep(1), lambda: silly.pcall(lambda: time.sleep(0))) == set()
    assert wrong_in(rows, lambda: silly.pcall(lambda: time.sleep(0)), lambda: task.fork(time.sleep, 1).join()) == set()
    assert wrong_in(rows, lambda: silly.pcall(time.sleep, 0)) == {"silly.pcall"}
