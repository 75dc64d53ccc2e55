"""The launcher's options: what stands on the command line before the script, and what
the environment says in its place (``SILLY_WORKERS`` for ``--workers``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .._core.ending import Plan
from .._shown import shown

LEVELS = ("debug", "info", "warn", "error")
_MOST_DIGITS = 15
_LONGEST = 10_000
"""The most hours of a time. Clocks of the system overflow at longer ones."""
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
"""What a variable of the environment says for an option without a value."""


class BadOption(Exception):
    """An option that can't be used. The text says why, and what to do."""


Convert = Callable[[str, str], Any]
"""Makes a value of the text behind an option. The first argument is the option's name.
Raises BadOption."""


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _number(least: int) -> Convert:
    def number(name: str, text: str) -> int:
        if not _digits(text) or int(text) < least:
            raise BadOption(f"{name} needs a whole number from {least} on, not {shown(text)}")
        return int(text)

    return number


def _of_units(what: str, units: dict[str, int]) -> Convert:
    def amount(name: str, text: str) -> int:
        digits = text.rstrip("".join(units))
        unit = text[len(digits) :]
        if not _digits(digits) or (unit and unit not in units):
            raise BadOption(f"{name} needs {what}, not {shown(text)}")
        return int(digits) * units.get(unit, 1)

    return amount


_HOUR = 3_600_000
_milliseconds = _of_units("milliseconds, or a time such as 30s, 15m or 12h", {"ms": 1, "s": 1000, "m": 60_000, "h": _HOUR})
_size = _of_units("bytes, or a size such as 512M or 2G", {"K": 2**10, "M": 2**20, "G": 2**30})


def _time(name: str, text: str) -> int:
    ms: int = _milliseconds(name, text)
    if ms > _LONGEST * _HOUR:
        raise BadOption(f"{name} is at most {_LONGEST}h, not {shown(text)}")
    return ms


def _level(name: str, text: str) -> str:
    if text not in LEVELS:
        raise BadOption(f"{name} needs a level: {', '.join(LEVELS)}")
    return text


def _path(name: str, text: str) -> str:
    if not text or "\0" in text or text[0] == "-":  # the next option, where the path was forgotten
        raise BadOption(f"{name} needs the path of a file" + (f", not {shown(text)}" if text else ""))
    return text


@dataclass(slots=True)
class Options:
    """What the options say. Times are in milliseconds, sizes in bytes."""

    level: str = "info"
    workers: int = 0
    """How many worker processes serve; 0: this process serves itself."""
    drain: int = Plan().drain
    """How long handlers may go on once the end has begun."""
    notice: int = Plan().notice
    """How long everything goes on before that, while ``/readyz`` says 503."""
    spread: int = Plan().spread
    """The time over which WebSockets are closed. At most ``drain``."""
    max_rss: int = 0
    """The memory of a worker above which it is replaced; 0: any."""
    max_age: int = 0
    """The age of a worker at which it is replaced; 0: any."""
    reload: bool = False
    """Whether changes of the program's files start it anew."""
    daemon: bool = False
    """Whether it runs in the background."""
    pid_file: str | None = None
    log_path: str | None = None
    """The file that gets stdout and stderr."""
    env_files: list[str] = field(default_factory=list)
    """Files with variables for the environment."""
    no_environment: bool = False
    """Whether the environment says nothing of options, as in a process that another
    one of ours has started with all of them."""
    given: set[str] = field(default_factory=set)
    """The fields that the command line has set."""


_TAKES: dict[str, tuple[str, Convert | None]] = {
    "--log-level": ("level", _level),
    "-l": ("level", _level),
    "--workers": ("workers", _number(1)),
    "--drain": ("drain", _time),
    "--notice": ("notice", _time),
    "--spread": ("spread", _time),
    "--max-rss": ("max_rss", _size),
    "--max-age": ("max_age", _time),
    "--reload": ("reload", None),
    "--daemon": ("daemon", None),
    "-d": ("daemon", None),
    "--pid-file": ("pid_file", _path),
    "--log-path": ("log_path", _path),
    "--env-file": ("env_files", _path),
    "--no-environment": ("no_environment", None),
}
"""By name, the field that an option sets, and what makes its value; None: it has none.
"""

_FROM_ENVIRONMENT = {
    f"SILLY_{name[2:].replace('-', '_').upper()}": name for name in _TAKES if name[:2] == "--" and name != "--no-environment"
}


def knows(option: str) -> bool:
    """Whether ``option`` is one of these, with a value behind ``=`` or without."""
    return option.partition("=")[0] in _TAKES


def take(option: str, args: list[str], options: Options) -> None:
    """Sets what ``option`` says. Its value is behind ``=``, or the first of ``args``,
    which is then taken off. Raises BadOption."""
    name, equals, value = option.partition("=")
    attribute, convert = _TAKES[name]
    options.given.add(attribute)
    if convert is None:
        if equals:
            raise BadOption(f"{name} takes no value")
        setattr(options, attribute, True)
        return
    if not equals:
        value = args.pop(0) if args else ""
    _set(options, attribute, convert(name, value))


def _set(options: Options, attribute: str, value: Any) -> None:
    if attribute == "env_files":
        options.env_files.append(value)
    else:
        setattr(options, attribute, value)


def take_environment(options: Options, environ: Mapping[str, str]) -> None:
    """Sets what the variables of ``environ`` say, where neither the command line nor
    an earlier call has. An empty variable says nothing. Raises BadOption."""
    if options.no_environment:
        return
    for variable, name in _FROM_ENVIRONMENT.items():
        text = environ.get(variable)
        attribute, convert = _TAKES[name]
        if not text or attribute in options.given:
            continue
        if convert is not None:
            value = convert(variable, text)
        elif (value := _WORDS.get(text.lower())) is None:
            raise BadOption(f"{variable} says whether {name} is given: 1 or 0, not {shown(text)}")
        _set(options, attribute, value)
        options.given.add(attribute)


def check(options: Options) -> None:
    """Raises BadOption if the options don't go together."""
    if options.workers and sys.platform != "linux":
        raise BadOption("--workers needs Linux, which alone spreads connections over the sockets of several processes")
    if options.workers and options.daemon and options.log_path is None:
        raise BadOption("--daemon with --workers needs --log-path FILE: else the workers would go on to write to this terminal")
    for name, value in ("--max-rss", options.max_rss), ("--max-age", options.max_age):
        if value and not options.workers:
            raise BadOption(f"{name} is for workers: write --workers N too; --workers 1 will do")
    if options.spread > options.drain:
        raise BadOption(
            f"--spread {options.spread} is more than --drain {options.drain}: WebSockets that are open then are cut off"
        )
    if options.reload and options.workers:
        raise BadOption("--reload is for development, in one process: leave out --workers")
    if options.reload and options.daemon:
        raise BadOption("--reload is for development, in a terminal: leave out --daemon")


def arguments(options: Options) -> list[str]:
    """Returns the command line that says the same, for another process, whatever that
    process's environment says of options."""
    default = Options()
    args = ["--no-environment"]
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name in ("given", "no_environment") or value == getattr(default, each.name):
            continue
        name = next(name for name, (attribute, _) in _TAKES.items() if attribute == each.name)
        for one in value if isinstance(value, list) else [value]:
            args += [name] if one is True else [name, str(one)]
    return args
