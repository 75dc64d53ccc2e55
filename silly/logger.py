"""Log lines, by the standard library's ``logging`` under the name ``"silly"``.

    logger.info("port", 8080, {"a": 1})
    logger.infof("port %s", 8080)

``info`` writes its arguments, separated by spaces; ``infof`` formats them (with ``%s``
and ``%%`` only). If the application configures no logging, lines go to stderr as
``2026-01-31 12:00:00.123 INFO port 8080``. If it adds handlers to
``logging.getLogger("silly")`` or to the root logger, these get the records instead.

**No line waits.** Lines for stderr go through a queue, and a thread writes them; see
``silly/_stderr.py``. ``logging.shutdown()`` waits up to 0.5 s for what is queued, as
the end of the process does; call it before ``os._exit`` or ``os.execv``. Handlers of
the application run where the line is logged. What one raises never reaches the program:
it is reported on stderr, once and then at most every 10 s.

**No peer floods the log.** Of each kind of line that a peer can cause 100 go through at
once, and 10 a second after that. The others are counted, and the count is told with the
next line of that kind, or after a second.

Control characters are escaped, and all lines of a text but the first are indented, so
text from a peer can't forge a line.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Any

from greenlet import getcurrent

from . import _stderr
from ._ends import ENDS

DEBUG = 0
INFO = 1
WARN = 2
ERROR = 3

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_log = logging.getLogger("silly")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class _Stderr(logging.Handler):
    """The last resort: writes to the present ``sys.stderr``, if no other handler is
    there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.queue = _stderr.Stderr(lambda count: self._line(logging.WARNING, f"\u2026 {count} lines lost"))

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers and _log.handlers == [self]:
            self.queue.write(self.format(record) + "\n", record.levelno)

    def show(self, level: int, text: str) -> None:
        """Writes a line here, whatever other handlers are there."""
        self.queue.write(self._line(level, text), level)

    def flush(self) -> None:
        self.queue.flush()

    def _line(self, level: int, text: str) -> str:
        return self.format(logging.LogRecord("silly", level, __file__, 0, text, None, None)) + "\n"


_default = _Stderr()
_log.addHandler(_default)
_log.setLevel(logging.INFO)

_inside: set[Any] = set()
"""The greenlets that are within ``_write``."""


def _write(level: int, text: str) -> None:
    """Gives a line to the handlers. What one of them raises, other than ``ENDS``, goes
    no further: a line that can't be logged must not end what it is about."""
    me = getcurrent()
    if me in _inside:
        # A handler logs, or what it uses does. Each line would lead to the next.
        _default.show(level, text)
        return
    _inside.add(me)
    try:
        _log.log(level, "%s", text, stacklevel=3)
    except ENDS:
        raise
    except BaseException:
        if logging.raiseExceptions:
            _failed(level, text)
    finally:
        _inside.discard(me)


def _failed(level: int, text: str) -> None:
    """Reports what a handler has raised."""
    try:
        why = traceback.format_exc().rstrip()
        _kind("handlers", ERROR, 1, 0.1).add(_text(f"a handler of log lines failed at: {text}\n{why}"))
    except ENDS:
        raise
    except BaseException:
        _default.queue.lose()  # the stack is nearly full, for one


# ---- lines that peers can cause ------------------------------------------------------

_BURST = 100
"""Lines of one kind that go through at once."""
_RATE = 10.0
"""Lines of one kind that go through in each second after that."""
_REST = 1.0
"""Seconds after which what was held back is told, if no such line comes."""

_later: Callable[[float, Callable[[Any], None]], object] | None = None
"""Calls a function in so many seconds, in the loop's thread; the scheduler sets it. May
be called in any thread."""
_armed = False
"""Whether ``_tell_rest`` will be called."""


class _Kind:
    """Lines of one kind: a bucket of tokens, and what was held back."""

    __slots__ = ("_burst", "_last", "_level", "_more", "_rate", "_room", "_when", "_write")

    def __init__(self, level: int, burst: int, rate: float, write: Callable[[int, str], object]) -> None:
        self._level = _LEVELS[level]
        self._burst = self._room = float(burst)
        self._rate = rate
        self._write = write
        self._when = 0.0
        self._more = 0
        self._last = ""

    def add(self, text: str) -> None:
        """Writes a line, or holds it back."""
        now = monotonic()
        self._room = room = min(self._burst, self._room + (now - self._when) * self._rate)
        self._when = now
        if room < 1.0:
            self._more += 1
            self._last = text
            _arm()
            return
        self._room = room - 1.0
        more, self._more = self._more, 0
        self._write(self._level, f"{text} (\u2026 {more} more lines like it)" if more else text)

    def tell(self) -> None:
        """Writes the last line that was held back, and how many were before it."""
        more, self._more = self._more - 1, 0
        if more >= 0:
            self._write(self._level, f"{self._last} (\u2026 {more} more lines like it)" if more else self._last)


_kinds: dict[str, _Kind] = {}
"""By the names that the calls of ``_limited`` have as literals."""


def _kind(kind: str, level: int, burst: int, rate: float) -> _Kind:
    found = _kinds.get(kind)
    if found is None:
        found = _kinds[kind] = _Kind(level, burst, rate, _default.show if kind == "handlers" else _write)
    return found


def _limited(kind: str, text: str, level: int = INFO, burst: int | None = None, rate: float | None = None) -> None:
    """Writes a line that a peer can cause. ``kind`` is a literal of its own at each
    call, with one ``level``: at most ``burst`` lines of it go through at once, and
    ``rate`` a second after that."""
    if _log.level <= _LEVELS[level]:
        _kind(kind, level, _BURST if burst is None else burst, _RATE if rate is None else rate).add(_text(text))


def _arm() -> None:
    global _armed
    if not _armed and _later is not None:
        _armed = True
        _later(_REST, _tell_rest)


def _tell_rest(_: object = None) -> None:
    global _armed
    _armed = False
    for kind in list(_kinds.values()):
        kind.tell()


# ---- the end -------------------------------------------------------------------------


def _say(value: object) -> None:
    """Prints ``value`` to stderr in its turn, whatever handlers and level there are."""
    _default.queue.write(f"{_shown(value)}\n", logging.ERROR)


def _say_waiting(lines: str) -> None:
    """Prints many lines, and waits until that is done. For a thread that may."""
    _default.queue.write_waiting(lines)


def _end() -> None:
    """Tells what is held back, and waits until stderr has everything, for 0.5 s at
    most. Called at the process's end, before ``os._exit`` too."""
    try:
        _tell_rest()
    finally:
        _default.queue.end()


def _after_fork() -> None:
    """A child of ``os.fork`` tells nothing that is its parent's to tell."""
    global _later, _armed
    _later, _armed = None, False
    _kinds.clear()
    _inside.clear()
    _default.queue.after_fork()


atexit.register(_end)
os.register_at_fork(after_in_child=_after_fork)


# ---- the lines' text -----------------------------------------------------------------


def _text(value: Any) -> str:
    text = _CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode("ascii"), str(value))
    return text.replace("\n", "\n  ") if "\n" in text else text


def _shown(value: Any, show: Callable[[Any], object] = lambda value: value) -> str:
    """Returns ``str(show(value))``, or what can be said if that raises: for lines about
    objects of the application, which must not end what they are about."""
    try:
        return str(show(value))
    except ENDS:
        raise
    except BaseException as exc:
        return f"<{type(value).__qualname__}, which can't be shown: {type(exc).__qualname__}>"


def _name(func: Any) -> str:
    """Returns the qualified name of a callable of the application."""
    return _shown(func, lambda func: getattr(func, "__qualname__", func))


def _format(fmt: str, args: tuple[Any, ...]) -> str:
    rest = iter(args)

    def expand(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind == "%":
            return "%"
        if kind != "s":
            raise ValueError(f"invalid option '%{kind}' to 'format', only '%s' is supported")
        try:
            return _text(next(rest))
        except StopIteration:
            raise ValueError(f"too few values for the format {fmt!r}") from None

    return re.sub(r"%(.?)", expand, fmt, flags=re.DOTALL)


def getlevel() -> int:
    """Returns the level below which lines are dropped: ``DEBUG`` 0, ``INFO`` 1,
    ``WARN`` 2 or ``ERROR`` 3.
    """
    return next((i for i, level in enumerate(_LEVELS) if _log.level <= level), ERROR)


def setlevel(level: int) -> None:
    """Drops lines below ``level`` (``logger.DEBUG`` to ``logger.ERROR``).

        logger.setlevel(logger.INFO)

    Raises ValueError for any other value.
    """
    if level not in (DEBUG, INFO, WARN, ERROR):
        raise ValueError(f"log level must be 0 (DEBUG) to 3 (ERROR), not {level!r}")
    _log.setLevel(_LEVELS[level])


def debug(*values: Any) -> None:
    """Writes the values, separated by spaces, at level DEBUG."""
    if _log.level <= logging.DEBUG:
        _write(logging.DEBUG, " ".join(map(_text, values)))


def info(*values: Any) -> None:
    """Writes the values, separated by spaces, at level INFO.

        logger.info("port", 8080)

    Text from a peer is escaped.
    """
    if _log.level <= logging.INFO:
        _write(logging.INFO, " ".join(map(_text, values)))


def warn(*values: Any) -> None:
    """Writes the values, separated by spaces, at level WARN."""
    if _log.level <= logging.WARNING:
        _write(logging.WARNING, " ".join(map(_text, values)))


def error(*values: Any) -> None:
    """Writes the values, separated by spaces, at level ERROR.

        logger.error("no connection to", "127.0.0.1:8080")

    ``setlevel`` drops none of these.
    """
    _write(logging.ERROR, " ".join(map(_text, values)))


def debugf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level DEBUG.
    """
    if _log.level <= logging.DEBUG:
        _write(logging.DEBUG, _format(fmt, values))


def infof(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level INFO.
    """
    if _log.level <= logging.INFO:
        _write(logging.INFO, _format(fmt, values))


def warnf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level WARN.

        logger.warnf("%s of %s", 3, 5)

    Raises ValueError for another option than ``%s``, and for too few values.
    """
    if _log.level <= logging.WARNING:
        _write(logging.WARNING, _format(fmt, values))


def errorf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level ERROR.
    """
    _write(logging.ERROR, _format(fmt, values))
