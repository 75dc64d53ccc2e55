"""Checks what ``silly.process`` is given, and says why a program can't be started.
``call`` names the caller in errors, which are TypeError and ValueError."""

from __future__ import annotations

import errno as numbers
import os
import signal as signals
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

from . import errno
from ._shown import cut, shown
from ._wire.numbers import check_int


def command(call: str, args: object) -> list[bytes]:
    if isinstance(args, (str, bytes, os.PathLike)):
        raise TypeError(f'{call} needs a list, such as ["ls", "-l"]: no shell is used that would split a text')
    if not isinstance(args, Sequence):
        raise TypeError(f"{call} needs a list of the program and its arguments, not {type(args).__name__}")
    if not args:
        raise ValueError(f"{call} needs a list with a program, and this one is empty")
    return [word(call, "an argument", each) for each in args]


def word(call: str, what: str, value: object) -> bytes:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{call}: {what} is str, bytes or a path, not {type(value).__name__}")
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError as exc:
        raise ValueError(f"{call}: {what} can't be encoded: {exc}") from None
    if b"\0" in encoded:
        raise ValueError(f"{call}: {what} can't hold a zero byte")
    return encoded


def environment(call: str, env: Mapping[Any, Any] | None) -> dict[bytes, bytes] | None:
    if env is None:
        return None
    if not isinstance(env, Mapping):
        raise TypeError(f"{call}: env is a dict, not {type(env).__name__}")
    variables = {word(call, "a name in env", name): word(call, f"env[{shown(name)}]", value) for name, value in env.items()}
    for name in variables:
        if not name or b"=" in name:
            raise ValueError(f"{call}: env: no variable can be named {shown(os.fsdecode(name))}")
    return variables


def file(call: str, name: str, given: Any) -> int | None:
    if given is None or (given in (PIPE, DEVNULL) and isinstance(given, int)) or (given == STDOUT and name == "stderr"):
        return given  # type: ignore[no-any-return]
    number = given.fileno() if hasattr(given, "fileno") else given
    if isinstance(number, bool) or not isinstance(number, int):
        kinds = "None, PIPE, DEVNULL, a descriptor or an open file"
        raise TypeError(f"{call}: {name} is {kinds}, not {type(given).__name__}")
    if not 0 <= number < 2**31:
        raise ValueError(
            f"{call}: {name}: {number} is no descriptor" + ("; STDOUT is for stderr" if number == STDOUT else "")
        )
    return number


def size(what: str, given: object) -> tuple[int, int]:
    """Checks rows and columns."""
    if not isinstance(given, tuple) or len(given) != 2:
        raise ValueError(f"{what} is a pair, (rows, columns), not {shown(given)}")
    rows, columns = given
    check_int(f"{what}: rows", rows, 1, 65535)
    check_int(f"{what}: columns", columns, 1, 65535)
    return rows, columns


def signal_number(signal: object) -> int:
    """Returns the number of a signal."""
    try:
        if isinstance(signal, str):
            return signals.Signals[signal]
        if isinstance(signal, int) and not isinstance(signal, bool):
            if signal in signals.valid_signals():
                return int(signal)
            raise KeyError
    except KeyError:
        raise ValueError(f"child.kill: there is no signal {shown(signal)} here; an example of a name is 'SIGTERM'") from None
    raise TypeError(f"child.kill needs a signal's name or number, not {type(signal).__name__}")


def look_for(program: bytes, cwd: bytes | None, env: dict[bytes, bytes] | None) -> None:
    """Raises the OSError that ``Popen`` would, where a shell starts the program in its
    place."""
    if cwd is not None:
        os.close(os.open(cwd, os.O_RDONLY | os.O_DIRECTORY))
    found = _found(program, cwd, env)
    if not found:
        raise FileNotFoundError(numbers.ENOENT, os.strerror(numbers.ENOENT), program)
    if not any(os.path.isfile(path) and os.access(path, os.X_OK) for path in found):
        raise PermissionError(numbers.EACCES, os.strerror(numbers.EACCES), program)


def _found(program: bytes, cwd: bytes | None, env: dict[bytes, bytes] | None) -> list[bytes]:
    known: Any = env  # it takes bytes too
    paths = [b""] if os.path.dirname(program) else [os.fsencode(path) for path in os.get_exec_path(known)]
    return [path for each in paths if os.path.exists(path := os.path.join(cwd or b"", each, program))]


def why(exc: OSError, program: bytes, cwd: bytes | None, env: dict[bytes, bytes] | None) -> str:
    """Says why a program can't be started."""
    err = errno.from_oserror(exc)
    if cwd is not None and exc.filename == cwd:
        return f"cwd {shown(os.fsdecode(cwd))}: {err}"
    text = f"{cut(os.fsdecode(program))}: {err}"
    if exc.errno == numbers.ENOENT and exc.filename == program:
        if _found(program, cwd, env):
            return f"{text}: the program that its first line names"
        return text if b"/" in program else f"{text}: there is no such program in PATH"
    if exc.errno == numbers.ENOEXEC:
        return f"{text}: a script needs a first line such as #!/bin/sh"
    return text
