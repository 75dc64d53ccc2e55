"""Log lines, by the standard library's ``logging`` under the name ``"silly"``.

    logger.info("port", 8080, {"a": 1})
    logger.infof("port %s", 8080)

``info`` writes its arguments, separated by spaces; ``infof`` formats them (with ``%s``
and ``%%`` only). If the application configures no logging, lines go to stderr as
``2026-01-31 12:00:00.123 INFO port 8080``. If it adds handlers to
``logging.getLogger("silly")`` or to the root logger, these get the records instead.

Control characters are escaped, and all lines of a text but the first are indented, so
text from a peer can't forge a line.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

DEBUG = 0
INFO = 1
WARN = 2
ERROR = 3

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_log = logging.getLogger("silly")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class _Stderr(logging.StreamHandler[Any]):
    """The last resort: writes to the present ``sys.stderr``, if no other handler is
    there.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))

    @property
    def stream(self) -> Any:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers and _log.handlers == [self]:
            super().emit(record)


_log.addHandler(_Stderr())
_log.setLevel(logging.INFO)


def _text(value: Any) -> str:
    text = _CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode("ascii"), str(value))
    return text.replace("\n", "\n  ") if "\n" in text else text


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
    """Drops lines below ``level`` (``logger.DEBUG`` to ``logger.ERROR``). Raises
    ValueError for any other value.
    """
    if level not in (DEBUG, INFO, WARN, ERROR):
        raise ValueError(f"log level must be 0 (DEBUG) to 3 (ERROR), not {level!r}")
    _log.setLevel(_LEVELS[level])


def debug(*values: Any) -> None:
    """Writes the values, separated by spaces, at level DEBUG."""
    if _log.level <= logging.DEBUG:
        _log.debug("%s", " ".join(map(_text, values)))


def info(*values: Any) -> None:
    """Writes the values, separated by spaces, at level INFO."""
    if _log.level <= logging.INFO:
        _log.info("%s", " ".join(map(_text, values)))


def warn(*values: Any) -> None:
    """Writes the values, separated by spaces, at level WARN."""
    if _log.level <= logging.WARNING:
        _log.warning("%s", " ".join(map(_text, values)))


def error(*values: Any) -> None:
    """Writes the values, separated by spaces, at level ERROR.

        logger.error("no connection to", "127.0.0.1:8080")

    Lines of this level are never dropped.
    """
    _log.error("%s", " ".join(map(_text, values)))


def debugf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level DEBUG.
    """
    if _log.level <= logging.DEBUG:
        _log.debug("%s", _format(fmt, values))


def infof(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level INFO.
    """
    if _log.level <= logging.INFO:
        _log.info("%s", _format(fmt, values))


def warnf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level WARN.
    """
    if _log.level <= logging.WARNING:
        _log.warning("%s", _format(fmt, values))


def errorf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level ERROR.
    """
    _log.error("%s", _format(fmt, values))
