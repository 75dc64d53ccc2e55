"""Blows: ``cancel`` strikes a task at a wait of the library, and then life goes on.

The *sites* are every call of ``park``, ``pause`` and ``Waiters.wait`` in the library. They are found by reading its code, so a
new one counts from the day it is written: ``tests/test_blows.py`` fails until a scenario of ``blow_scenarios`` is struck there.

A scenario runs in the main program, which can't be cancelled; every task that it forks can. ``Blows`` counts the waits of these
tasks, and strikes at the chosen ones: in place of the wait (``AT_ONCE``: the blow was there before), or while the task waits
(``WAITING``: whatever wakes it in that turn comes first, and then the blow strikes at its next wait). What a task does with a
blow is up to the scenario: ``again`` and ``done`` go on as if nothing had been.
"""

from __future__ import annotations

import ast
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import silly
from silly import task
from silly._core import scheduler, waiting
from silly._core.scheduler import Cancelled
from silly.sync import channel

AT_ONCE, WAITING = "at once", "while it waits"
ROOT = Path(silly.__file__).parent
WITHIN = 10_000
"""Milliseconds that bound what a scenario waits for; only one that fails waits so long."""

_WAITING = waiting.__file__
_CALLS = ("park", "pause")


class Site(NamedTuple):
    """A call that waits: its file below the package, its lines, and the function that it stands in."""

    file: str
    line: int
    last: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.name})"


class _Names(ast.NodeVisitor):
    """Collects what holds a ``Waiters`` or something derived from it: attributes by their names, in all files; variables by the
    file and the function; and the names of functions that return one.
    """

    def __init__(self) -> None:
        self.kinds = {"Waiters"}
        """The class and those derived from it."""
        self.returning: set[str] = set()
        self.attributes: set[str] = set()
        self.variables: set[tuple[str, str, str]] = set()
        self.file = ""
        self._inside: list[str] = []

    def _is_kind(self, annotation: ast.AST | None) -> bool:
        words = set() if annotation is None else set(re.findall(r"\w+", ast.unparse(annotation)))
        return bool(words & self.kinds)

    def _holds(self, target: ast.AST) -> None:
        if isinstance(target, ast.Attribute):
            self.attributes.add(target.attr)
        elif isinstance(target, ast.Name):
            self.variables.add((self.file, ".".join(self._inside), target.id))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(self._is_kind(base) for base in node.bases):
            self.kinds.add(node.name)
        self._inside.append(node.name)
        self.generic_visit(node)
        self._inside.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if self._is_kind(node.returns):
            self.returning.add(node.name)
        self._inside.append(node.name)
        self.generic_visit(node)
        self._inside.pop()

    def visit_arg(self, node: ast.arg) -> None:
        if self._is_kind(node.annotation):
            self._holds(ast.Name(node.arg))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._is_kind(node.annotation):
            self._holds(node.target)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Call) and _last(node.value.func) in self.kinds | self.returning:
            for target in node.targets:
                self._holds(target)
        self.generic_visit(node)

    def has(self, file: str, inside: str, value: ast.AST) -> bool:
        """Whether the expression is one of these."""
        if isinstance(value, ast.Name):
            own = value.id == "self" and inside.partition(".")[0] in self.kinds
            return own or (file, inside, value.id) in self.variables
        if isinstance(value, ast.Call):
            return _last(value.func) in self.kinds | self.returning
        return isinstance(value, ast.Attribute) and value.attr in self.attributes


class _Calls(ast.NodeVisitor):
    """Collects the calls that wait."""

    def __init__(self, file: str, names: _Names) -> None:
        self.found: list[Site] = []
        self._file = file
        self._names = names
        self._inside: list[str] = []

    def _visit_scope(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        self._inside.append(node.name)
        self.generic_visit(node)
        self._inside.pop()

    visit_FunctionDef = visit_ClassDef = _visit_scope

    def visit_Call(self, node: ast.Call) -> None:
        name = _last(node.func)
        inside = ".".join(self._inside)
        of_a_queue = (
            name in ("wait", "wait_result")
            and isinstance(node.func, ast.Attribute)
            and self._names.has(self._file, inside, node.func.value)
        )
        if name in _CALLS or of_a_queue:
            self.found.append(Site(self._file, node.lineno, node.end_lineno or node.lineno, inside))
        self.generic_visit(node)


def _last(node: ast.AST) -> str:
    """The last name of an expression such as ``self.a.b``; "" if it ends in none."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def find_sites(root: Path = ROOT) -> list[Site]:
    """Every call of the package that waits."""
    trees = {path.relative_to(root).as_posix(): ast.parse(path.read_text()) for path in sorted(root.rglob("*.py"))}
    names = _Names()
    for _ in range(4):  # what derives from a class may stand before it
        for names.file, tree in trees.items():
            names.visit(tree)
    found: list[Site] = []
    for file, tree in trees.items():
        calls = _Calls(file, names)
        calls.visit(tree)
        found += calls.found
    return found


class _Lines:
    """Finds the site of a frame."""

    def __init__(self) -> None:
        self._at = {(str(ROOT / site.file), line): site for site in find_sites() for line in range(site.line, site.last + 1)}
        self.unknown: set[str] = set()
        """Where the library waited, and the search of its code has found nothing."""

    def of(self, frame: FrameType | None) -> list[Site]:
        """The site that waits in ``frame``; behind one of ``Waiters.wait``, the caller's too."""
        found: list[Site] = []
        while frame is not None:
            file = frame.f_code.co_filename
            site = self._at.get((file, frame.f_lineno))
            if site is None:
                if file.startswith(str(ROOT)):
                    self.unknown.add(f"{file}:{frame.f_lineno}")
                break
            found.append(site)
            if file != _WAITING:
                break
            frame = frame.f_back
        return found


LINES = _Lines()


class Blows:
    """Strikes at some waits of a run. ``choose(number, sites)`` says for each wait, counted from 0, how it is struck; None: not
    at all."""

    def __init__(self, choose: Callable[[int, list[Site]], str | None]) -> None:
        self._choose = choose
        self.waits: list[list[Site]] = []
        """The sites of each wait, in order."""
        self.struck: list[Site] = []
        """The sites at which a task was struck, in order."""
        self.count = 0
        """How often it has struck, or is about to."""
        self.spared: set[task.Task] = set()
        """Tasks that belong to the checks, and that nothing strikes."""
        self.ended = False
        """Whether the scenario cleans up: nobody is struck any more."""

    def _before(self, frame: FrameType) -> None:
        """A task is about to wait."""
        me = scheduler.loop.current
        if self.ended or me is None or me is scheduler.main or me in self.spared:
            return
        sites = LINES.of(frame)
        if not sites:
            return  # a wait of the tests' own
        how = self._choose(len(self.waits), sites)
        self.waits.append(sites)
        if how is None:
            return
        self.count += 1
        if how is AT_ONCE:
            me.cancel()
        else:
            scheduler.loop.post(_strike, me)

    @contextmanager
    def armed(self) -> Iterator[Blows]:
        """Looks at every wait of the library."""
        park, pause = scheduler.park, scheduler.pause

        def parked(what: object, status: str = scheduler.WAIT) -> Any:
            self._before(sys._getframe(1))
            try:
                return park(what, status)
            except Cancelled:
                self.struck += LINES.of(sys._getframe(1))
                raise

        def paused() -> None:
            self._before(sys._getframe(1))
            try:
                pause()
            except Cancelled:
                self.struck += LINES.of(sys._getframe(1))
                raise

        changed = {id(park): parked, id(pause): paused}
        with ExitStack() as undo:
            for name, module in list(sys.modules.items()):
                if name.partition(".")[0] == "silly":
                    for attribute in _CALLS:
                        value = getattr(module, attribute, None)
                        if id(value) in changed:
                            setattr(module, attribute, changed[id(value)])
                            undo.callback(setattr, module, attribute, value)
            yield self


def _strike(victim: task.Task) -> None:
    if task.status(victim) is not None:
        victim.cancel()


def nowhere() -> Blows:
    """Only counts."""
    return Blows(lambda number, sites: None)


def at(number: int, how: str) -> Blows:
    """One blow, at the wait ``number``."""
    return Blows(lambda wait, sites: how if wait == number else None)


def drawn(seed: object, rate: float) -> Blows:
    """Blows at waits that ``seed`` draws, each with the probability ``rate``."""
    draw = random.Random(str(seed))
    return Blows(lambda number, sites: draw.choice((AT_ONCE, WAITING)) if draw.random() < rate else None)


def at_function(name: str, skipped: int = 0) -> Blows:
    """One blow, at the first wait in the function ``name``, or after so many ``skipped`` ones."""

    def choose(number: int, sites: list[Site]) -> str | None:
        before = sum(any(site.name == name for site in wait) for wait in blows.waits)
        return AT_ONCE if before == skipped and any(site.name == name for site in sites) else None

    blows = Blows(choose)
    return blows


# ---- what tasks do with a blow -------------------------------------------------------


def again(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Returns what ``call`` returns, tried until no blow strikes it: for calls that take something, of which a blow must lose
    nothing."""
    while True:
        try:
            return call(*args, **kwargs)
        except Cancelled:
            pass


def done(call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Does ``call`` once: for calls that give something. Returns whether no blow struck it."""
    try:
        call(*args, **kwargs)
    except Cancelled:
        return False
    return True


class Job:
    """``func()`` in a task; the scenario takes its result."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self._done = channel.new()
        self._func = func
        self.task = task.fork(self._run)

    def _run(self) -> None:
        result: Any
        try:
            result = self._func(), None
        except BaseException as exc:
            result = None, exc
        self._done.push(result)

    def result(self) -> Any:
        """What ``func`` returned; raises what it raised."""
        with silly.time.deadline(WITHIN):
            item, err = self._done.pop()
        if item is None:
            raise AssertionError(f"{self.task} hangs: it waits on {self.task.waiting()} ({err})")
        value, exc = item
        if exc is not None:
            raise exc
        return value
