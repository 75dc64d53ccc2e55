"""How log lines are written, those of the library and those of ``silly.logger``.

The lines of ``silly.logger`` have the name ``"silly"`` in the standard library's
``logging``. Each line of the library goes to a child of that logger, by its subject. A
module has the child under the name ``logger``:

    from ..._log import http as logger

    logger.error(f"exception in {name}:", exc)

An exception is the record's ``exc_info``; the text of its traceback, escaped and
bounded, is there as ``exc_text``, which all formatters of the standard library use.

**No line waits.** Lines for stderr go through a queue, and a thread writes them; see
``_stderr.py``.

**No peer floods the log.** ``Log.limited`` bounds the lines of each kind.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from time import monotonic
from types import CodeType
from typing import Any

from greenlet import getcurrent

from . import _stderr
from ._ends import ENDS
from ._shown import said, traceback_of, unspeakable

DEBUG = 0
INFO = 1
WARN = 2
ERROR = 3

LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
"""The levels of ``logging`` for these."""

root = logging.getLogger("silly")
"""The logger of ``silly.logger``, and the parent of the library's own."""

TRACE = 32 * 1024
"""The most characters of a traceback, as messages of exceptions may be of any length. A
longer one is cut in its middle."""

_OURS = frozenset((__name__, "silly.logger"))
_MAY_LIVE = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_cause = BaseException.__dict__["__cause__"].__get__
_context = BaseException.__dict__["__context__"].__get__
_parts = BaseExceptionGroup.__dict__["exceptions"].__get__
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class _Stderr(logging.Handler):
    """The last resort: writes to the present ``sys.stderr``, if no other handler gets
    the record.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name_lines()
        self.queue = _stderr.Stderr(lambda count: self._line(logging.WARNING, f"\u2026 {count} lines lost"))
        self._known = True
        """Whether ``logging.shutdown`` flushes it: ``dictConfig`` closes and forgets
        the handlers that there are, though loggers keep them."""

    def name_lines(self, who: str = "") -> None:
        """See the function of this name."""
        self.setFormatter(logging.Formatter(f"%(asctime)s.%(msecs)03d %(levelname)s {who}%(message)s", "%Y-%m-%d %H:%M:%S"))

    def close(self) -> None:
        super().close()
        self._known = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._known:
            self._known = True
            logging._addHandlerRef(self)  # type: ignore[attr-defined]
        if all(handler is self for handler in _handlers_for(record.name)):
            self.queue.write(self.format(record) + "\n", record.levelno)

    def show(self, level: int, text: str) -> None:
        """Writes a line here, whatever other handlers are there."""
        self.queue.write(self._line(level, text), level)

    def flush(self) -> None:
        self.queue.flush()

    def _line(self, level: int, text: str) -> str:
        return self.format(logging.LogRecord("silly", level, __file__, 0, text, None, None)) + "\n"


def _handlers_for(name: str) -> Iterator[logging.Handler]:
    """Yields the handlers that get the records of the logger ``name``."""
    # Not ``getLogger``, which takes a lock: code that a signal has interrupted may hold
    # it.
    log = root.manager.loggerDict.get(name)
    at: logging.Logger | None = log if isinstance(log, logging.Logger) else root
    while at is not None:
        yield from at.handlers
        at = at.parent if at.propagate else None


_default = _Stderr()
root.addHandler(_default)
root.setLevel(logging.INFO)

_inside: set[Any] = set()
"""The greenlets that are within ``write``."""


def write(log: logging.Logger, level: int, text: str, exc: BaseException | None = None) -> None:
    """Gives a line to the handlers, with the exception that it is about. What one of
    them raises, other than ``ENDS``, goes no further: it must not end the code that
    logs."""
    me = getcurrent()
    inside = me in _inside
    _inside.add(me)
    whole = text
    try:
        if not log.isEnabledFor(level):
            return
        trace = about = None
        if exc is not None:
            trace = _trace(exc)
            whole = f"{text}\n{trace}"
            about = type(exc), exc, traceback_of(exc)
        if inside:
            # A handler logs, or what it uses does. Each line would lead to the next.
            _default.show(level, whole)
            return
        code, line = _caller()
        record = log.makeRecord(log.name, level, code.co_filename, line, text, (), about, code.co_name)
        record.exc_text = trace
        log.handle(record)
    except ENDS:
        raise
    except BaseException as again:
        if logging.raiseExceptions:
            _failed(level, whole, again)
    finally:
        if not inside:
            _inside.discard(me)


def _caller() -> tuple[CodeType, int]:
    """Returns the code that logs, and its line: the innermost outside the modules that
    only write."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__") in _OURS and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lineno


def _trace(exc: BaseException) -> str:
    """Returns the traceback of ``exc``, as it stands below the line that it is for."""
    try:
        text = "".join(traceback.format_exception(exc)).rstrip()
    except Exception as why:  # an attribute of it is a property that raises
        text = f"Traceback (most recent call last):\n{''.join(traceback.format_tb(traceback_of(exc)))}{unspeakable(exc, why)}"
    if len(text) > TRACE:
        text = f"{text[: TRACE // 2]}\n…\n{text[-TRACE // 2 :]}"
    return f"  {plain(text)}"


def _failed(level: int, text: str, exc: BaseException) -> None:
    """Reports what a handler has raised."""
    try:
        why = _trace(exc)
        _kind(None, "handlers", ERROR, 1, 0.1).add(f"{plain(f'a handler of log lines failed at: {text}')}\n{why}")
    except ENDS:
        raise
    except BaseException:
        _default.queue.lose()  # the stack is nearly full, for one


def plain(value: object) -> str:
    """Returns ``str(value)``, or what can be said if that raises, without what could
    forge a line or control a terminal."""
    text = _CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode("ascii"), said(value))
    return text.replace("\n", "\n  ") if "\n" in text else text


# ---- the lines of the library --------------------------------------------------------


class Log:
    """The library's lines about one subject, which go to the logger
    ``silly.SUBJECT``. The texts are escaped."""

    __slots__ = ("_log",)

    DEBUG = DEBUG
    INFO = INFO
    WARN = WARN
    ERROR = ERROR

    def __init__(self, subject: str) -> None:
        self._log = logging.getLogger(f"silly.{subject}")

    def debug(self, text: str) -> None:
        """Writes a line at level DEBUG."""
        if (self._log.level or root.level) <= logging.DEBUG:
            write(self._log, logging.DEBUG, plain(text))

    def info(self, text: str) -> None:
        """Writes a line at level INFO."""
        if (self._log.level or root.level) <= logging.INFO:
            write(self._log, logging.INFO, plain(text))

    def warn(self, text: str) -> None:
        """Writes a line at level WARN."""
        if (self._log.level or root.level) <= logging.WARNING:
            write(self._log, logging.WARNING, plain(text))

    def error(self, text: str, exc: BaseException | None = None) -> None:
        """Writes a line at level ERROR, with the exception that it is about."""
        write(self._log, logging.ERROR, plain(text), exc)

    def dropped(self, text: str, exc: BaseException) -> None:
        """Writes a line about an exception that goes no further, and releases it."""
        try:
            self.error(text, exc)
        finally:
            release(exc)

    def limited(
        self, kind: str, text: str, level: int = INFO, burst: int | None = None, rate: float | None = None
    ) -> None:
        """Writes a line that a peer can cause. ``kind`` is a literal of its own at each
        call, with one ``level``: at most ``burst`` lines of it go through at once, and
        ``rate`` a second after that."""
        if (self._log.level or root.level) <= LEVELS[level]:
            found = _kind(self._log, kind, level, _BURST if burst is None else burst, _RATE if rate is None else rate)
            found.add(plain(text))


task = Log("task")
"""Tasks, timers, hooks, signals, the loop, and the end of the process."""
tcp = Log("tcp")
"""Listeners and connections, whatever is spoken on them."""
tls = Log("tls")
http = Log("http")
websocket = Log("websocket")
SUBJECTS = (task, tcp, tls, http, websocket)


def release(exc: BaseException) -> None:
    """Clears the frames of an exception that was logged. A handler may keep the record,
    and with it the variables of all code that has failed: a connection would stay open,
    though nothing uses it any more."""
    todo: list[BaseException | None] = [exc]
    done: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in done:
            continue
        done.add(id(each))
        for frame, _ in traceback.walk_tb(traceback_of(each)):
            # A generator may have caught the exception, and live.
            if not frame.f_code.co_flags & _MAY_LIVE:
                try:
                    frame.clear()
                except RuntimeError:
                    pass  # it has not ended
        todo += _cause(each), _context(each)
        if issubclass(type(each), BaseExceptionGroup):
            todo += _parts(each)


def flush() -> None:
    """Flushes every handler that may have got a line of the library."""
    for log in (*[subject._log for subject in SUBJECTS], root, logging.getLogger()):
        for handler in log.handlers:
            handler.flush()


# ---- lines that peers can cause ------------------------------------------------------

_BURST = 100
"""Lines of one kind that go through at once."""
_RATE = 10.0
"""Lines of one kind that go through in each second after that."""
_REST = 1.0
"""Seconds after which the lines that were held back are reported, if no other of their
kind comes."""

later: Callable[[float, Callable[[Any], None]], object] | None = None
"""Calls a function after a number of seconds, in the loop's thread; the scheduler sets
it. May be called in any thread."""
_armed = False
"""Whether ``_tell_rest`` will be called."""


class _Kind:
    """Lines of one kind: a bucket of tokens, and what was held back."""

    __slots__ = ("_burst", "_last", "_level", "_log", "_more", "_rate", "_room", "_when")

    def __init__(self, log: logging.Logger | None, level: int, burst: int, rate: float) -> None:
        self._log = log
        """None: the lines are for stderr, whatever handlers there are."""
        self._level = LEVELS[level]
        self._burst = self._room = float(burst)
        self._rate = rate
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
        self._write(text, more)

    def tell(self) -> None:
        """Writes the last line that was held back, and how many were before it."""
        more, self._more = self._more - 1, 0
        if more >= 0:
            self._write(self._last, more)

    def _write(self, text: str, more: int) -> None:
        if more:
            text = f"{text} (\u2026 {more} more lines like it)"
        if self._log is None:
            _default.show(self._level, text)
        else:
            write(self._log, self._level, text)


_kinds: dict[str, _Kind] = {}
"""By the names that the calls of ``limited`` have as literals."""


def _kind(log: logging.Logger | None, kind: str, level: int, burst: int, rate: float) -> _Kind:
    found = _kinds.get(kind)
    if found is None:
        found = _kinds[kind] = _Kind(log, level, burst, rate)
    return found


def _arm() -> None:
    global _armed
    if not _armed and later is not None:
        _armed = True
        later(_REST, _tell_rest)


def _tell_rest(_: object = None) -> None:
    global _armed
    _armed = False
    for kind in list(_kinds.values()):
        kind.tell()


# ---- the end -------------------------------------------------------------------------


def say(value: object) -> None:
    """Prints ``value`` to stderr, after the lines that wait, whatever handlers and
    level there are."""
    _default.queue.write(f"{said(value)}\n", logging.ERROR)


def name_lines(who: str) -> None:
    """Each line on stderr has ``[who]`` in front of its text from now on. For one of
    several processes that share a log."""
    _default.name_lines(f"[{who}] ")


def in_turn(func: Callable[[], object]) -> None:
    """Calls ``func``, which must raise nothing, in the thread that writes to stderr,
    when the lines that wait are written."""
    _default.queue.call(func)


def lose(lines: int) -> None:
    """Counts lines that others could not write to stderr or to the log file."""
    _default.queue.lose(lines)


def say_waiting(lines: str) -> None:
    """Prints many lines, and waits until that is done. For a thread that may block."""
    _default.queue.write_waiting(lines)


def end() -> None:
    """Reports the lines that are held back, and waits until stderr has everything, for
    0.5 s at most. Called at the process's end, before ``os._exit`` too."""
    try:
        _tell_rest()
    finally:
        _default.queue.end()


def _after_fork() -> None:
    """In a child of ``os.fork``: the lines that are held back are the parent's."""
    global later, _armed
    later, _armed = None, False
    _kinds.clear()
    _inside.clear()
    _default.queue.after_fork()


atexit.register(end)
os.register_at_fork(after_in_child=_after_fork)
