"""The public modules: everything public has a docstring, and every name in ``__all__`` exists."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import silly
from silly._core.loop import Handler, Watched
from silly.net._listener import Admission
from silly.net._output import Owner
from silly.net.http.h1 import Hijacker

PUBLIC = ["silly"] + sorted(
    info.name
    for info in pkgutil.walk_packages(silly.__path__, "silly.")
    if not any(part.startswith("_") for part in info.name.split("."))
)

SIGNATURES = {
    "silly.run": "main",
    "silly.exit": "status",
    "silly.pcall": "func args",
    "silly.check": "pair",
    "silly.genid": "",
    "silly.task.fork": "func args kwargs",
    "silly.task.wait": "",
    "silly.task.wakeup": "task result",
    "silly.task.running": "",
    "silly.task.status": "task",
    "silly.task.readycount": "",
    "silly.task.inspect": "",
    "silly.task.hook": "create term",
    "silly.time.now": "",
    "silly.time.monotonic": "",
    "silly.time.sleep": "ms",
    "silly.time.after": "ms func args kwargs",
    "silly.time.cancel": "timer",
    "silly.sync.channel.new": "size",
    "silly.sync.channel.Channel.push": "self item timeout",
    "silly.sync.channel.Channel.pop": "self timeout",
    "silly.sync.channel.Channel.send": "self item timeout",
    "silly.sync.channel.Channel.recv": "self timeout",
    "silly.sync.channel.Channel.close": "self reason",
    "silly.sync.channel.Channel.clear": "self",
    "silly.sync.mutex.new": "",
    "silly.sync.mutex.Mutex.lock": "self key",
    "silly.sync.mutex.Lock.unlock": "self",
    "silly.sync.waitgroup.new": "",
    "silly.sync.waitgroup.WaitGroup.fork": "self func args kwargs",
    "silly.sync.waitgroup.WaitGroup.wait": "self timeout",
    "silly.sync.singleflight.new": "func",
    "silly.sync.singleflight.SingleFlight.call": "self key",
    "silly.signal": "sig handler",
    "silly.signal.signal": "sig handler",
    "silly.hive.spawn": "make args kwargs",
    "silly.hive.invoke": "worker args kwargs",
    "silly.hive.limit": "min max",
    "silly.hive.threads": "",
    "silly.hive.prune": "",
    "silly.net.udp.bind": "addr broadcast share limits",
    "silly.net.udp.connect": "addr bindaddr broadcast limits",
    "silly.net.udp.Conn.recvfrom": "self timeout",
    "silly.net.udp.Conn.sendto": "self data addr",
    "silly.net.udp.Conn.close": "self",
    "silly.net.udp.Conn.isalive": "self",
    "silly.net.udp.Conn.unsentbytes": "self",
    "silly.net.udp.Conn.unreadbytes": "self",
    "silly.env.get": "key",
    "silly.env.set": "key value",
    "silly.logger.getlevel": "",
    "silly.logger.setlevel": "level",
    "silly.logger.info": "values",
    "silly.logger.infof": "fmt values",
}
"""Upstream's names and order of arguments."""

PROTOCOLS = (Admission, Handler, Hijacker, Owner, Watched)
"""What the modules of the package call each other by."""
USERS_TOO = {"close", "leave"}
"""Names of theirs that are for users too: a program closes things, and leaves multicast groups."""


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its ``__all__``, else the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def documented(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Every public function and class of a module, and every public method and property of those classes."""
    for name in public_names(module):
        value = getattr(module, name)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        yield name, value
        if inspect.isclass(value):
            for base in value.__mro__:
                if not base.__module__.startswith("silly"):
                    continue
                for inner, member in vars(base).items():
                    member = getattr(member, "__func__", member)  # static and class methods
                    if not inner.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                        yield f"{name}.{inner}", member


def test_the_public_modules_are_found() -> None:
    for name in ("silly.task", "silly.time", "silly.sync.channel", "silly.net.tcp", "silly.logger", "silly.errno"):
        assert name in PUBLIC
    assert not [name for name in PUBLIC if "._" in name]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_thing_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), "the module itself"
    without = [inner for inner, value in documented(module) if not (inspect.getdoc(value) or "").strip()]
    assert without == []


@pytest.mark.parametrize("name", PUBLIC)
def test_the_names_in_all_exist_and_are_unique(name: str) -> None:
    module = importlib.import_module(name)
    names = public_names(module)
    assert [each for each in names if not hasattr(module, each)] == []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", [name for name in PUBLIC if hasattr(importlib.import_module(name), "__all__")])
def test_no_public_class_shows_what_only_the_package_calls(name: str) -> None:
    internal = {inner for each in PROTOCOLS for inner, value in vars(each).items() if inspect.isfunction(value)}
    public = [inner for inner, _ in documented(importlib.import_module(name))]
    assert [inner for inner in public if inner.rpartition(".")[2] in internal - USERS_TOO] == []


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_have_upstream_s_order(name: str) -> None:
    value: Any = silly
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    assert " ".join(inspect.signature(value).parameters) == SIGNATURES[name]


def test_the_levels_of_the_logger_are_constants() -> None:
    assert [getattr(silly.logger, name) for name in ("DEBUG", "INFO", "WARN", "ERROR")] == [0, 1, 2, 3]
