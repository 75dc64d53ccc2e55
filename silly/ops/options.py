"""The launcher's options: what stands on the command line before the script."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

LEVELS = ("debug", "info", "warn", "error")


class BadOption(Exception):
    """An option that can't be used. The text says why, and what to do."""


def _number(name: str, least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= 2**53:
            raise BadOption(f"{name} needs a whole number from {least} on, not {text!r}")
        return int(text)

    return number


def _of_units(name: str, what: str, units: dict[str, int]) -> Callable[[str], int]:
    def size(text: str) -> int:
        digits = text.rstrip("".join(units))
        unit = text[len(digits) :]
        if not digits.isascii() or not digits.isdigit() or (unit and unit not in units):
            raise BadOption(f"{name} needs {what}, not {text!r}")
        return int(digits) * units.get(unit, 1)

    return size


def _time(name: str) -> Callable[[str], int]:
    return _of_units(name, "milliseconds, or a time such as 30s, 15m or 12h", {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000})


def _level(text: str) -> str:
    if text not in LEVELS:
        raise BadOption(f"-l needs a level: {', '.join(LEVELS)}")
    return text


@dataclass(slots=True)
class Options:
    """What the options say. Times are in milliseconds, sizes in bytes."""

    level: str = "info"
    workers: int = 0
    """How many worker processes serve; 0: this process serves itself."""
    drain: int = 2000
    """How long handlers may go on once the end has begun."""
    notice: int = 0
    """How long everything goes on before that, while ``/readyz`` says 503."""
    spread: int = 0
    """The time over which WebSockets are closed. At most ``drain``."""
    max_rss: int = 0
    """The memory of a worker above which it is replaced; 0: any."""
    max_age: int = 0
    """The age of a worker at which it is replaced; 0: any."""
    reload: bool = False
    """Whether changes of the program's files start it anew."""
    daemon: bool = False
    pid_file: str | None = None
    log_path: str | None = None
    env_files: list[str] = field(default_factory=list)


_TAKES: dict[str, tuple[str, Callable[[str], Any] | None]] = {
    "-l": ("level", _level),
    "--log-level": ("level", _level),
    "--workers": ("workers", _number("--workers", 1)),
    "--drain": ("drain", _time("--drain")),
    "--notice": ("notice", _time("--notice")),
    "--spread": ("spread", _time("--spread")),
    "--max-rss": ("max_rss", _of_units("--max-rss", "bytes, or a size such as 512M or 2G", {"K": 2**10, "M": 2**20, "G": 2**30})),
    "--max-age": ("max_age", _time("--max-age")),
    "--reload": ("reload", None),
    "--daemon": ("daemon", None),
    "--pid-file": ("pid_file", str),
    "--log-path": ("log_path", str),
    "--env-file": ("env_files", str),
}


def knows(option: str) -> bool:
    """Whether ``option`` is one of these, with a value behind ``=`` or without."""
    return option.partition("=")[0] in _TAKES


def take(option: str, args: list[str], options: Options) -> None:
    """Sets what ``option`` says. Its value is behind ``=``, or the first of ``args``,
    which is then taken off. Raises BadOption."""
    name, equals, value = option.partition("=")
    attribute, convert = _TAKES[name]
    if convert is None:
        if equals:
            raise BadOption(f"{name} takes no value")
        setattr(options, attribute, True)
        return
    if not equals:
        if not args:
            convert("") if convert is not str else None
            raise BadOption(f"{name} needs a value")
        value = args.pop(0)
    if attribute == "env_files":
        options.env_files.append(value)
    else:
        setattr(options, attribute, convert(value))


def check(options: Options) -> None:
    """Raises BadOption if the options don't go together."""
    if options.workers and sys.platform != "linux":
        raise BadOption("--workers needs Linux, which alone spreads connections over the sockets of several processes")
    if options.workers and options.reload:
        raise BadOption("--reload is for development, in one process: leave out --workers")
    for name, value in ("--max-rss", options.max_rss), ("--max-age", options.max_age):
        if value and not options.workers:
            raise BadOption(f"{name} is for workers: write --workers N too; --workers 1 will do")
    if options.spread > options.drain:
        raise BadOption(
            f"--spread {options.spread} is more than --drain {options.drain}: WebSockets that are not closed by then are cut off"
        )


def arguments(options: Options) -> list[str]:
    """Returns the command line that says the same, for another process."""
    default = Options()
    args: list[str] = []
    for each in fields(options):
        value = getattr(options, each.name)
        if value == getattr(default, each.name):
            continue
        name = "--log-level" if each.name == "level" else "--env-file" if each.name == "env_files" else f"--{each.name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            args += [name] if one is True else [name, str(one)]
    return args
