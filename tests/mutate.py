"""Single mutations of a module, each run against tests: those that no test notices are printed.

``python -m tests.mutate FILE [--tests "…"] [--count 20] [--seed 1]``, or ``make mutate FILE=…``. A
mutation changes a copy of the tree, never the tree itself. The exit status is 0 when every mutation was
noticed, 1 when some survived, and 2 when the tests could not judge any.

A survivor is a question, not a verdict: the mutation may change only a cost, or nothing at all.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

USUAL = (
    ("silly/_core/", "tests/core tests/test_task.py tests/test_time.py tests/test_deadline.py tests/test_channel.py"),
    ("silly/_wire/", "tests/wire"),
    ("silly/net/websocket/", "tests/net/test_ws_*.py tests/net/test_websocket.py"),
    ("silly/net/http/", "tests/net/test_http*.py"),
    ("silly/net/*tls", "tests/net/test_tls*.py tests/net/test_stream_tls.py"),
    ("silly/net/_dial", "tests/net/test_dial.py tests/net/test_tcp.py"),
    ("silly/net/_names", "tests/net/test_dial.py tests/net/test_listen.py"),
    ("silly/net/_binding", "tests/net/test_listen.py tests/net/test_tcp.py"),
    ("silly/net/_listener", "tests/net/test_listen.py tests/net/test_tcp.py"),
    ("silly/net/", "tests/net/test_stream*.py tests/net/test_sendfile.py tests/net/test_descriptor.py"),
    ("silly/sync/", "tests/test_channel.py tests/test_deadline.py"),
    ("silly/", "tests/test_*.py"),
)
"""Which tests to run for a file whose path begins so; the first that fits."""
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "htmlcov")
"""What tests don't need of the tree."""
LEAST = 10
"""Seconds that the tests may take with a mutation at least; else three times what they take without one."""
SWAPPED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


class Mutation(NamedTuple):
    kind: str
    line: int
    begin: int
    """The bytes of the source from here to ``end`` become ``text``."""
    end: int
    text: str
    what: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.begin] + self.text.encode() + source[self.end :]


def mutations(source: bytes) -> list[Mutation]:
    """All mutations of the functions in ``source``, but for logging, ``assert``, annotations and ``__repr__``."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in nodes(ast.parse(source)):
        for kind, text, what in changes(node):
            # Of a condition only the question changes: the answer is known.
            place = node.test if isinstance(node, ast.If | ast.IfExp) else node
            begin = starts[place.lineno - 1] + place.col_offset
            end = starts[(place.end_lineno or 0) - 1] + (place.end_col_offset or 0)
            if kind == "number":
                what += f" in: {source.splitlines()[node.lineno - 1].strip().decode()}"
            mutation = Mutation(kind, node.lineno, begin, end, text, what)
            try:
                compile(mutation.apply(source), "mutation", "exec")
            except SyntaxError:
                continue
            found.append(mutation)
    return found


def nodes(parent: ast.AST, inside: bool = False) -> Iterator[ast.expr | ast.stmt]:
    """What may be mutated, from outside in: what stands in functions."""
    for name, value in ast.iter_fields(parent):
        if name in ("annotation", "returns", "decorator_list", "keywords"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.Assert | ast.JoinedStr):
                continue
            if ast.unparse(node).startswith(("logger.", "def __repr__")):
                continue
            if inside and isinstance(node, ast.expr | ast.stmt):
                yield node
            yield from nodes(node, inside or isinstance(node, ast.FunctionDef))


def changes(node: ast.expr | ast.stmt) -> Iterator[tuple[str, str, str]]:
    """The mutations of this node alone: kind, new text, description."""
    old = ast.unparse(node)
    if isinstance(node, ast.Compare):
        yield "negate", f"(not ({old}))", f"not ({old})"
        for at, op in enumerate(node.ops):
            if type(op) in SWAPPED:
                ops = [*node.ops[:at], SWAPPED[type(op)](), *node.ops[at + 1 :]]
                new = ast.unparse(ast.Compare(node.left, ops, node.comparators))
                yield "boundary", f"({new})", f"{old} -> {new}"
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        for new in (node.value + 1, node.value - 1):
            yield "number", f"({new})", f"{old} -> {new}"
    elif isinstance(node, ast.BoolOp):
        new = ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
        yield "and/or", f"({new})", f"{old} -> {new}"
        for at, value in enumerate(node.values):
            rest = [*node.values[:at], *node.values[at + 1 :]]
            new = ast.unparse(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
            yield "operand", f"({new})", f"{old}: without {ast.unparse(value)}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not", f"({ast.unparse(node.operand)})", f"{old}: without not"
    elif isinstance(node, ast.If | ast.IfExp):
        for answer in (True, False):
            yield "condition", f"({answer})", f"if {ast.unparse(node.test)}: always {answer}"
    elif isinstance(node, ast.Return):
        if node.value is not None and old != "return None":
            new = {"return True": "return False", "return False": "return True"}.get(old, "return None")
            yield "return", new, f"{old} -> {new}"
    elif isinstance(node, ast.Assign | ast.AugAssign | ast.Delete | ast.Raise | ast.Break | ast.Continue) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ):
        yield "removed", "pass", f"removed: {old}"


def draw(found: Sequence[Mutation], count: int, seed: int) -> list[Mutation]:
    """``count`` of them by chance, of each kind about as many."""
    chance = random.Random(seed)
    kinds: dict[str, list[Mutation]] = {}
    for mutation in found:
        kinds.setdefault(mutation.kind, []).append(mutation)
    for group in kinds.values():
        chance.shuffle(group)
    turns = [mutation for at in range(len(found)) for group in kinds.values() for mutation in group[at : at + 1]]
    return turns[:count]


def run_tests(tree: Path, tests: Sequence[str], limit: float) -> tuple[int | None, str]:
    """pytest's exit status, None when the tests took longer than ``limit`` seconds; and what it said."""
    env = {**os.environ, "PYTHONPATH": str(tree)}
    env.setdefault("SILLY_PURE", "1")  # what is mutated is Python
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        return status, said.read()


def survivors(root: Path, file: str, tests: Sequence[str], count: int, seed: int) -> list[Mutation]:
    """Those of ``count`` mutations of ``file`` that ``tests`` pass with. Raises RuntimeError when they can't judge."""
    source = (root / file).read_bytes()
    drawn = draw(mutations(source), count, seed)
    survived = []
    with tempfile.TemporaryDirectory(prefix="mutate-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(root, tree, ignore=IGNORED)
        begun = time.monotonic()
        status, said = run_tests(tree, tests, 600)
        limit = max(LEAST, 3 * (time.monotonic() - begun))
        if status != 0:
            raise RuntimeError(f"the tests fail without a mutation:\n{said}")
        for number, mutation in enumerate([None, *drawn]):
            changed = mutation.apply(source) if mutation else b"raise RuntimeError('mutated')\n"
            (tree / file).write_bytes(changed)
            os.utime(tree / file, (number, number))  # Python compiles again what has another time, in whole seconds
            status, _ = run_tests(tree, tests, limit)
            if mutation is None:
                if status == 0:
                    raise RuntimeError(f"the tests pass without {file}: they never load it")
                continue
            survived += [mutation] if status == 0 else []
            result = {None: "took too long", 0: "SURVIVED"}.get(status, "noticed")
            print(f"{number}/{len(drawn)} {file}:{mutation.line}: {mutation.what}: {result}", flush=True)
    return survived


def usual_tests(file: str) -> str:
    """Patterns of the tests to run for ``file``."""
    return next((tests for begin, tests in USUAL if fnmatch(file, begin + "*")), "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--tests", default="", help="test files, in place of the usual ones for that file")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    root = Path.cwd()
    file = str(Path(args.file).resolve().relative_to(root))
    patterns = (args.tests or usual_tests(file)).split()
    names = [str(path.relative_to(root)) for pattern in patterns for path in sorted(root.glob(pattern))]
    try:
        survived = survivors(root, file, names, args.count, args.seed)
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return 2
    print(f"\n{len(survived)} survived")
    for mutation in survived:
        print(f"{file}:{mutation.line}: {mutation.what}")
    return 1 if survived else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
