"""The layers: no module imports one above it, there is no cycle, and what is pure stays so. Read from the source.

A new module in a known folder finds its place by the table; one that it doesn't know fails here until it is given one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import silly

ROOT = Path(silly.__file__).parent

LAYERS: list[list[str]] = [
    # From the bottom up (docs/design.md, "The picture"). The longest prefix of a name decides; "x._" means x's private ones.
    ["silly._version", "silly.errno", "silly._ends", "silly._shown", "silly._stderr", "silly._streams", "silly._log"],
    ["silly._core.*", "silly._wire.*"],
    # The lines of the library's user; its own go to the children in ``_log``.
    ["silly.logger", "silly.env", "silly._assignments"],
    # The rest of the top folder: task, time, sync, and whatever upstream has beside them.
    ["silly.*", "silly.sync.*"],
    ["silly.net", "silly.net._*", "silly.net.addr"],
    # tcp, tls, and whatever transports come.
    # And processes, whose pipes are streams.
    ["silly.net.*", "silly.process"],
    ["silly.net.http.*"],
    ["silly.net.websocket.*"],
    # Other people's code on the loop.
    ["silly.bridge.*"],
    # It replaces the clock of all of them, and tests them.
    ["silly.testing.*"],
    # What the launcher does around the script.
    ["silly.ops.*"],
    ["silly", "silly.__main__"],
]

WITHIN_CORE = [
    "callers phases result timers poller _fields",
    "_accelerated",
    "loop tasks",
    "signals worker",
    "scheduler",
    "deadline cancelling unswitching watchdog child",
    "waiting guard",
    "joining children select threads descriptor",
    "group mapping",
    "ending",
]
"""The order within ``_core``, from the bottom up."""

FORBIDDEN = {
    # Bytes in, values out.
    "silly._wire.*": "socket ssl OpenSSL select selectors threading greenlet asyncio subprocess signal logging silly",
    # "Nothing here knows a greenlet."
    "silly._core.loop": "greenlet",
    "silly._core.worker": "greenlet",
    "silly._core.signals": "greenlet",
    # Pure: `now` is an argument.
    "silly._core.timers": "greenlet time datetime socket selectors threading",
    # "Nothing here knows a socket."
    "silly._core.scheduler": "socket ssl OpenSSL selectors",
    "silly._core.deadline": "socket ssl OpenSSL selectors",
    "silly._core.threads": "socket ssl OpenSSL selectors",
    "silly._core.waiting": "socket ssl OpenSSL selectors",
    "silly._core.child": "socket ssl OpenSSL selectors",
    "silly._core.ending": "socket ssl OpenSSL selectors",
    "silly.hive": "socket ssl OpenSSL selectors",
    "silly.task": "socket ssl OpenSSL selectors",
    "silly.time": "socket ssl OpenSSL selectors",
    "silly.sync.*": "socket ssl OpenSSL selectors",
    # One library of TLS, in one place.
    "silly.net.http.*": "socket ssl OpenSSL selectors",
    "silly.net.websocket": "socket ssl OpenSSL selectors",
}


def name_of(path: Path) -> str:
    parts = ["silly", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = sorted(PATHS)
PACKAGES = {name for name, path in PATHS.items() if path.name == "__init__.py"}
CLOCKS = {
    "silly._core.loop": "others have it from there",
    "silly._log": "below the loop; replaced with the rest",
    "silly._stderr": "a thread waits for a pipe, in real time",
}
"""Modules that may take the monotonic clock from ``time``."""
LAZY = {"silly", "silly.bridge", "silly.net", "silly.sync"}
"""Packages whose children load on first use."""


def matches(pattern: str, module: str) -> bool:
    if not pattern.endswith("*"):
        return module == pattern
    prefix = pattern[:-1]
    return module.startswith(prefix) or (prefix.endswith(".") and module == prefix[:-1] and module not in LAZY)


def layer(module: str) -> int | None:
    found = [
        (len(pattern.rstrip("*")), not pattern.endswith("*"), number)
        for number, patterns in enumerate(LAYERS)
        for pattern in patterns
        if matches(pattern, module)
    ]
    return max(found)[2] if found else None


def _is_type_checking(test: ast.expr) -> bool:
    """``if not TYPE_CHECKING`` is none: what is below it runs."""
    return isinstance(test, ast.Name | ast.Attribute) and "TYPE_CHECKING" in ast.dump(test)


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run, those within functions too; not what only the type checker reads."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from statements(other)
            continue
        yield child
        yield from statements(child)


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that ``module`` imports anywhere, by their full names; names within silly as modules of it."""
    tree = ast.parse(PATHS[module].read_bytes())
    package = module if module in PACKAGES else module.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in PATHS else base)
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "silly"}


def test_the_table_knows_some_places() -> None:
    expected = {
        "silly.errno": 0,
        "silly._core": 1,
        "silly._core.loop": 1,
        "silly._wire.limits": 1,
        "silly.logger": 2,
        "silly.task": 3,
        "silly.sync": 3,
        "silly.sync.channel": 3,
        "silly._process_child": 3,
        "silly.net": 4,
        "silly.net._stream": 4,
        "silly.net.addr": 4,
        "silly.net.tcp": 5,
        "silly.process": 5,
        "silly.net.http": 6,
        "silly.net.http.h1": 6,
        "silly.net.websocket": 7,
        "silly.bridge.descriptor": 8,
        "silly.testing": 9,
        "silly.testing._clock": 9,
        "silly.ops.options": 10,
        "silly.ops.ready": 10,
        "silly.__main__": 11,
        "silly": 11,
    }
    assert {name: layer(name) for name in expected} == expected


def test_the_whole_package_is_read() -> None:
    for name in ("silly", "silly.__main__", "silly._core.scheduler", "silly._wire.limits", "silly.net.tcp"):
        assert name in MODULES
    assert "silly._core.scheduler" in imports("silly.task")
    assert "silly._core.result" in imports("silly.net.tcp")
    assert "silly.net.addr" in imports("silly.net._listener")
    assert not ours("silly.net") | ours("silly.sync"), "what only the type checker reads doesn't count"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_one_above_it(module: str) -> None:
    mine = layer(module)
    assert mine is not None, f"{module} has no place in LAYERS"
    above = {name for name in ours(module) if (other := layer(name)) is None or other > mine}
    assert not above


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_the_root(module: str) -> None:
    assert "silly" not in imports(module)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("silly._core.")])
def test_the_order_within_the_core(module: str) -> None:
    order = {f"silly._core.{name}": i for i, names in enumerate(WITHIN_CORE) for name in names.split()}
    assert module in order, f"{module} has no place in WITHIN_CORE"
    inner = {name for name in ours(module) if name.startswith("silly._core") and name in MODULES}  # without what is in C
    assert all(order[name] < order[module] for name in inner), inner


def test_there_is_no_import_cycle() -> None:
    graph = {module: {name for name in ours(module) if name != module} for module in MODULES}
    while leaves := [module for module, uses in graph.items() if not uses & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph, f"in cycles, or above one: {sorted(graph)}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_that_a_module_must_not_have(module: str) -> None:
    forbidden = {word for pattern, words in FORBIDDEN.items() if matches(pattern, module) for word in words.split()}
    if module.startswith("silly._wire"):
        # How a value is shown in an error is one thing for all.
        used = {name for name in imports(module) if not name.startswith("silly._wire") and name != "silly._shown"}
    else:
        used = set(imports(module))
    assert not {name for name in used if name.split(".")[0] in forbidden}


@pytest.mark.parametrize("module", MODULES)
def test_only_lazy_packages_import_by_name(module: str) -> None:
    """An import that the source doesn't show would go round every other test here."""
    calls = [
        ast.unparse(node.func)
        for node in statements(ast.parse(PATHS[module].read_bytes()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
    ]
    assert calls == (["importlib.import_module"] if module in LAZY else [])


@pytest.mark.parametrize("module", MODULES)
def test_only_declared_packages_are_imported(module: str) -> None:
    """``test_oldest.py`` holds them against setup.cfg."""
    used = {name.split(".")[0] for name in imports(module)}
    declared = {"greenlet", "OpenSSL", "service_identity", "cryptography"}
    if module == "silly.testing.plugin":
        declared.add("pytest")  # who asks for the plugin has it
    if module.startswith(("silly.bridge.psycopg", "silly.bridge._postgres")):
        declared.add("psycopg")  # the extra ``postgres``
    assert used - sys.stdlib_module_names - {"silly"} <= declared


@pytest.mark.parametrize("module", [name for name in MODULES if name not in CLOCKS])
def test_every_module_has_the_clock_of_the_loop(module: str) -> None:
    """So that ``testing.clock`` can replace it. What a module takes from ``time`` itself stays the system's."""
    taken = {
        ast.unparse(node)
        for node in statements(ast.parse(PATHS[module].read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.module == "time" and not node.level
    }
    assert not [each for each in taken if "monotonic" in each], "from …_core.loop import monotonic"


SAME_NAME = {"Conn", "Connection", "Listener", "Socket"}
"""Public classes that their module makes clear: ``tcp.Conn``, ``tls.Conn``; ``websocket.Socket``,
``bridge.socket.Socket``; ``bridge.psycopg.Connection``."""


def test_classes_of_different_subjects_have_different_names() -> None:
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(ast.parse(PATHS[module].read_bytes())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in SAME_NAME} == {}
