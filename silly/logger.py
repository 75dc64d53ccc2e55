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
once, and 10 a second after that. The others are counted; the next line of that kind has
the count, or a line after a second.

**The library's lines** go to children of that logger, by their subjects: see
``docs/logs.md``. A level or handler of ``"silly"`` holds for them too.

Control characters are escaped, and all lines of a text but the first are indented, so
text from a peer can't forge a line.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NoReturn

from ._log import DEBUG as DEBUG
from ._log import ERROR as ERROR
from ._log import INFO as INFO
from ._log import LEVELS, plain, write
from ._log import WARN as WARN
from ._log import root as _log
from ._shown import shown


def _format(fmt: str, args: tuple[Any, ...]) -> str:
    rest = iter(args)

    def expand(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind == "%":
            return "%"
        if kind != "s":
            raise ValueError(f"invalid option '%{kind}' to 'format', only '%s' is supported")
        try:
            return plain(next(rest))
        except StopIteration:
            raise ValueError(f"too few values for the format {shown(fmt)}") from None

    return re.sub(r"%(.?)", expand, fmt, flags=re.DOTALL)


def getlevel() -> int:
    """Returns the level below which lines are dropped: ``DEBUG`` 0, ``INFO`` 1,
    ``WARN`` 2 or ``ERROR`` 3.

        if logger.getlevel() == logger.DEBUG:
            print("every line is written")
    """
    return next((i for i, level in enumerate(LEVELS) if _log.level <= level), ERROR)


def setlevel(level: int) -> None:
    """Drops lines below ``level`` (``logger.DEBUG`` to ``logger.ERROR``).

        logger.setlevel(logger.INFO)

    Raises ValueError for any other value.
    """
    if level not in (DEBUG, INFO, WARN, ERROR):
        raise ValueError(f"log level must be 0 (DEBUG) to 3 (ERROR), not {shown(level)}")
    _log.setLevel(LEVELS[level])


def debug(*values: Any) -> None:
    """Writes the values, separated by spaces, at level DEBUG."""
    if _log.level <= logging.DEBUG:
        write(_log, logging.DEBUG, " ".join(map(plain, values)))


def info(*values: Any) -> None:
    """Writes the values, separated by spaces, at level INFO.

        logger.info("port", 8080)

    Text from a peer is escaped.
    """
    if _log.level <= logging.INFO:
        write(_log, logging.INFO, " ".join(map(plain, values)))


def warn(*values: Any) -> None:
    """Writes the values, separated by spaces, at level WARN.

        logger.warn("no answer from", "127.0.0.1:8080")

    Text from a peer is escaped.
    """
    if _log.level <= logging.WARNING:
        write(_log, logging.WARNING, " ".join(map(plain, values)))


def error(*values: Any) -> None:
    """Writes the values, separated by spaces, at level ERROR.

        logger.error("no connection to", "127.0.0.1:8080")

    ``setlevel`` drops none of these.
    """
    write(_log, logging.ERROR, " ".join(map(plain, values)))


def debugf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level DEBUG.
    """
    if _log.level <= logging.DEBUG:
        write(_log, logging.DEBUG, _format(fmt, values))


def infof(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level INFO.
    """
    if _log.level <= logging.INFO:
        write(_log, logging.INFO, _format(fmt, values))


def warnf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level WARN.

        logger.warnf("%s of %s", 3, 5)

    Raises ValueError for another option than ``%s``, and for too few values.
    """
    if _log.level <= logging.WARNING:
        write(_log, logging.WARNING, _format(fmt, values))


def errorf(fmt: str, *values: Any) -> None:
    """Formats the values (``%s`` and ``%%`` only), and writes the line at level ERROR.
    """
    write(_log, logging.ERROR, _format(fmt, values))


_OURS = {"warning": "warn", "critical": "error", "exception": "error", "setLevel": "setlevel"}
"""What stands for functions of the standard library's ``logging``."""

if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> NoReturn:
        text = f"module {__name__!r} has no attribute {name!r}"
        if name in _OURS:
            text = f"{text}: use logger.{_OURS[name]}, or a logger of the standard library's logging"
        elif not name.startswith("_") and hasattr(logging, name):
            text = f"{text}: it is not the standard library's logging; import logging, and write logging.{name}"
        raise AttributeError(text)
