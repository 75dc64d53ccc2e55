"""Coverage for the fuzzer: ``silly._wire`` is compiled with counters in it, which cost far less than tracing its lines.

Counted is each block (a function's body, a branch, a loop's turn, a handler) and each outcome of a condition's parts.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

PACKAGE = "silly._wire."
hits: list[int] = []
"""How often each place was reached since ``reset``."""


def reset() -> None:
    hits[:] = bytes(len(hits))


def features() -> frozenset[int]:
    """The places reached, each with the magnitude of its count."""
    return frozenset([place << 6 | count.bit_length() for place, count in enumerate(hits) if count])


def install() -> None:
    """For modules that are imported from now on; none of ``silly._wire`` may have been."""
    assert not any(name.startswith(PACKAGE) for name in sys.modules)
    sys.meta_path.insert(0, _Finder())


def _saw(place: int, value: Any) -> Any:
    hits[place + bool(value)] += 1
    return value


def _place(count: int = 1) -> int:
    hits.extend([0] * count)
    return len(hits) - count


class _Counters(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and not isinstance(node, (ast.Module, ast.ClassDef)):
                block.insert(0, ast.parse(f"__hits__[{_place()}] += 1").body[0])
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if not node.orelse:
            node.orelse = [ast.Pass()]
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        node.values = [self._watched(value) for value in node.values]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        super().generic_visit(node)
        node.test = self._watched(node.test)
        return node

    def _watched(self, value: ast.expr) -> ast.expr:
        return ast.Call(ast.Name("__saw__", ast.Load()), [ast.Constant(_place(2)), value], [])


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Without the cache, which knows nothing of counters."""
        path = self.get_filename(fullname)
        tree = _Counters().visit(ast.parse(self.get_data(path), path))
        code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec")
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update({"__hits__": hits, "__saw__": _saw})
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec  # the C extension, or None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin)
        return spec
