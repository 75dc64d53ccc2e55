"""Settings in files of assignments, as upstream has them: the part of Lua that settings
need. Nothing in a file is run.

    -- a comment
    include("common.conf")
    server = { host = "0.0.0.0", port = 8080, names = { "a", "b" } }
    server.workers = 4
    secret = ENV("APP_SECRET") or "for development"
    timeout = 30 * 1000

Values are strings, numbers, ``true``, ``false``, ``nil`` and tables. Expressions have
``or``, ``and``, ``not``, comparisons for equality, ``..``, the four operations, names
that were assigned before, and brackets. Anything else is an error with its place.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from math import inf
from typing import Any, NamedTuple, NoReturn

from ._shown import shown

DEPTH = 50
"""How deep tables, expressions and included files may go."""
FILES = 1000
"""The most files that are read for one."""
MOST = 100_000
"""The most settings, and the most characters of a text that ``..`` makes: a short file
can double what it has again and again."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v\n]+|--\[(?P<c>=*)\[.*?\](?P=c)\]|--(?!\[=*\[)[^\n]*)
      |\[(?P<l>=*)\[(?:\r?\n)?(?P<long>.*?)\](?P=l)\]
      |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<string>"(?:[^"\\\n]|\\(?:\r\n|.))*"|'(?:[^'\\\n]|\\(?:\r\n|.))*')
      |(?P<mark>==|~=|\.\.|[=.,;{}()\[\]+*/]|-(?!-\[=*\[))""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:z\s*|x(?P<hex>[0-9a-fA-F]{2})|u\{(?P<code>[0-9a-fA-F]{1,6})\}|(?P<number>[0-9]{1,3})|(?P<one>\r\n|.))", re.DOTALL
)
_ONE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\r\n": "\n"}
_ONE |= {each: each for each in "\\\"'\n"}
_WORDS = {"true": True, "false": False, "nil": None}
_KEYWORDS = _WORDS.keys() | {"and", "break", "do", "else", "elseif", "end", "for", "function", "goto", "if", "in"}
_KEYWORDS |= {"local", "not", "or", "repeat", "return", "then", "until", "while"}


def _numbers(*values: object) -> bool:
    return all(type(value) in (int, float) for value in values)


def _equal(one: object, other: object) -> bool:
    return one == other and (type(one) is type(other) or _numbers(one, other))


def _text(value: object) -> str:
    if isinstance(value, str) or _numbers(value):
        return str(value)
    raise TypeError


_OPERATORS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "==": (3, _equal),
    "~=": (3, lambda a, b: not _equal(a, b)),
    "..": (4, lambda a, b: _text(a) + _text(b)),
    "+": (5, operator.add),
    "-": (5, operator.sub),
    "*": (6, operator.mul),
    "/": (6, operator.truediv),
}
"""By mark, how tightly an operator binds, and what it does."""

Table = dict[Any, Any]


class Mistake(Exception):
    """What is wrong in a file, and where."""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def read(path: str) -> dict[str, Any]:
    """Returns the settings of the file ``path``, and of the files that it includes,
    with flat keys: ``server.port``. A list has the keys ``names.1``, ``names.2`` and so
    on. Raises Mistake, and OSError.
    """
    settings: Table = {}
    _read(path, settings, 0, count(1))
    flat: dict[str, Any] = {}
    _flatten(path, [], settings, flat, count(1))
    return flat


def _read(path: str, settings: Table, depth: int, files: Iterator[int]) -> None:
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise Mistake(f"{path}:{line}: this is no UTF-8") from None
    _File(path, text, settings, depth, files).run()


def _flatten(path: str, keys: list[str], table: Table, flat: dict[str, Any], numbers: Iterator[int]) -> None:
    if len(keys) > DEPTH:
        raise Mistake(f"{path}: the table {shown(keys[0])} is too deep, or a part of itself")
    for key, value in table.items():
        if next(numbers) > MOST:
            raise Mistake(f"{path}: there are more than {MOST} settings")
        if isinstance(value, dict):
            _flatten(path, [*keys, str(key)], value, flat, numbers)
        elif value is not None:
            flat[".".join([*keys, str(key)])] = value


class _File:
    """The reader of one file. ``settings`` gets what it assigns; ``files`` counts the
    files that are read."""

    def __init__(self, path: str, text: str, settings: Table, depth: int, files: Iterator[int]) -> None:
        self._path = path
        self._settings = settings
        self._included = depth
        self._files = files
        self._depth = 0
        self._line = 1
        self._tokens = self._split(text)
        self._next = next(self._tokens)
        self._following: _Token | None = None
        """The token behind it, if that was looked at."""

    def _fail(self, why: str, line: int | None = None) -> NoReturn:
        raise Mistake(f"{self._path}:{self._next.line if line is None else line}: {why}")

    def _split(self, text: str) -> Iterator[_Token]:
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                begin = re.match(r"--\[=*\[|\[=*\[|[\"']", text[at:])
                self._fail("this has no end" if begin else f"{text[at]!r} has no place in settings", self._line)
            at = found.end()
            kind = found.lastgroup or ""
            if kind == "c":
                kind = "space"
            if kind != "space":
                yield _Token(kind, found["long"] if kind == "long" else found[0], self._line)
            self._line += found[0].count("\n")
        while True:
            yield _Token("end", "", self._line)

    def _go_on(self) -> None:
        """Goes to the next token."""
        self._next, self._following = self._following or next(self._tokens), None

    def _take(self, *texts: str) -> bool:
        """Takes the next token if it is one of the marks or words ``texts``."""
        if self._next.kind in ("mark", "name") and self._next.text in texts:
            self._go_on()
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._take(text):
            self._fail(f"{shown(text)} is expected here, not {self._shown()}")

    def _shown(self) -> str:
        return "the end of the file" if self._next.kind == "end" else repr(self._next.text[:40])

    def _name(self) -> str:
        token = self._next
        if token.kind != "name" or token.text in _KEYWORDS:
            self._fail(f"a name is expected here, not {self._shown()}: settings are NAME = VALUE, and include(FILE)")
        self._go_on()
        return token.text

    def run(self) -> None:
        """Reads the file."""
        while self._next.kind != "end":
            line = self._next.line
            name = self._name()
            if name == "include" and not self._is("=", "."):
                self._include(line)
            else:
                self._assign(name)
            self._take(";")

    def _is(self, *texts: str) -> bool:
        return self._next.kind == "mark" and self._next.text in texts

    def _include(self, line: int) -> None:
        bracket = self._take("(")
        path = self._value()
        if bracket:
            self._need(")")
        if not isinstance(path, str):
            self._fail("include needs the name of a file", line)
        if self._included >= DEPTH or next(self._files) >= FILES:
            self._fail(f"too many files include each other: {path}", line)
        try:
            _read(path, self._settings, self._included + 1, self._files)
        except (OSError, ValueError) as exc:  # ValueError: a null character in the name
            self._fail(f"can't include {path!r}: {getattr(exc, 'strerror', None) or exc}", line)

    def _assign(self, name: str) -> None:
        table: Any = self._settings
        key: Any = name
        while self._is(".", "["):
            table = table.get(key)
            key = self._key()
            if not isinstance(table, dict):
                self._fail(f"{name} is no table here: assign {name} = {{}} first")
        self._need("=")
        table[key] = self._expression()

    def _key(self) -> Any:
        if self._take("."):
            return self._name()
        self._need("[")
        key = self._expression()
        self._need("]")
        if not isinstance(key, str) and not _numbers(key):
            self._fail("a key is a string or a number")
        return int(key) if isinstance(key, float) and key.is_integer() else key

    def _expression(self, least: int = 1) -> Any:
        self._depth += 1
        if self._depth > DEPTH:
            self._fail("this is too deep")
        value = self._value()
        while True:
            line, mark = self._next.line, self._next.text
            if least <= 1 and self._take("or"):
                other = self._expression(2)
                value = other if value is None or value is False else value
            elif least <= 2 and self._take("and"):
                other = self._expression(3)
                value = value if value is None or value is False else other
            elif self._next.kind == "mark" and mark in _OPERATORS and _OPERATORS[mark][0] >= least:
                self._go_on()
                bind, func = _OPERATORS[mark]
                value = self._apply(mark, func, (value, self._expression(bind if mark == ".." else bind + 1)), line)
            else:
                break
        self._depth -= 1
        return value

    def _apply(self, mark: str, func: Callable[..., Any], values: tuple[Any, ...], line: int) -> Any:
        try:
            if mark in "+-*/" and not _numbers(*values):
                raise TypeError
            result = func(*values)
            if isinstance(result, int) and abs(result) >= 2**63:
                raise OverflowError
            if isinstance(result, str) and len(result) > MOST:
                self._fail(f"this text has more than {MOST} characters", line)
        except TypeError:
            self._fail(f"'{mark}' can't be applied to {' and '.join(map(_kind, values))}", line)
        except (ZeroDivisionError, OverflowError):
            self._fail(f"the result of '{mark}' is no number", line)
        return result

    def _value(self) -> Any:
        token = self._next
        if self._take("not"):
            value = self._expression(7)
            return value is None or value is False
        if self._take("-"):
            return self._apply("-", operator.neg, (self._expression(7),), token.line)
        if self._take("("):
            value = self._expression()
            self._need(")")
            return value
        if self._take("{"):
            return self._table()
        if token.kind == "name" and token.text not in _KEYWORDS:
            return self._reference()
        if token.kind not in ("string", "long", "number") and token.text not in _WORDS:
            self._fail(f"a value is expected here, not {self._shown()}: settings have strings, numbers, booleans and tables")
        self._go_on()
        if token.kind == "string":
            return self._unescaped(token)
        return token.text if token.kind == "long" else _WORDS[token.text] if token.kind == "name" else self._number(token)

    def _number(self, token: _Token) -> int | float:
        text = token.text
        value = int(text, 16) if text[:2] in ("0x", "0X") else int(text) if text.isdigit() and len(text) < 20 else float(text)
        if abs(value) < 2**63 or isinstance(value, float):
            return value
        return float(value) if value < 2**1000 else inf

    def _reference(self) -> Any:
        """Reads a name that was assigned before, or a call of ``ENV``."""
        line = self._next.line
        name = self._name()
        if name == "ENV":
            bracket = self._take("(")
            variable = self._value()
            if bracket:
                self._need(")")
            if not isinstance(variable, str):
                self._fail("ENV needs the name of a variable", line)
            return os.environ.get(variable)
        value = self._settings.get(name)
        while self._is(".", "["):
            if not isinstance(value, dict):
                self._fail(f"{name} is no table here", line)
            value = value.get(self._key())
        if self._is("(", "{") or self._next.kind in ("string", "long"):
            self._fail(f"settings can't call {name}: they have include(FILE) and ENV(NAME)", line)
        return value

    def _table(self) -> Table:
        table: Table = {}
        count = 0
        while not self._take("}"):
            if self._is("["):
                key = self._key()
                self._need("=")
                table[key] = self._expression()
            else:
                value, name = self._item()
                if name is None:
                    count += 1
                table[count if name is None else name] = value
            if not self._take(",", ";") and not self._is("}"):
                self._fail(f"',' or '}}' is expected here, not {self._shown()}")
        return table

    def _item(self) -> tuple[Any, str | None]:
        """Reads ``NAME = VALUE`` or ``VALUE`` in a table."""
        token = self._next
        if token.kind == "name" and token.text not in _KEYWORDS:
            self._following = following = next(self._tokens)
            if following.kind == "mark" and following.text == "=":
                self._go_on()
                self._go_on()
                return self._expression(), token.text
        return self._expression(), None

    def _unescaped(self, token: _Token) -> str:
        def one(match: re.Match[str]) -> str:
            if match["hex"]:
                return chr(int(match["hex"], 16))
            if match["code"]:
                code = int(match["code"], 16)
                if code >= 0x110000 or 0xD800 <= code < 0xE000:
                    self._fail("no such character", token.line)
                return chr(code)
            if match["number"]:
                return chr(int(match["number"]))
            if match["one"] is None:  # \z
                return ""
            return _ONE.get(match["one"]) or self._fail(f"the escape {shown(match[0])} is unknown", token.line)

        return _ESCAPE.sub(one, token.text[1:-1])


def _kind(value: object) -> str:
    return "nil" if value is None else {str: "a string", bool: "a boolean", dict: "a table"}.get(type(value), "a number")
