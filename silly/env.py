"""Settings of the process. A key has the value that comes first of:

1. what the program has set itself (``env.set``)
2. the launcher's command line: ``python -m silly app.py --port=8080``
3. the environment: ``SILLY_PORT=8080``; ``SILLY_SERVER_PORT`` for ``server.port``
4. the launcher's ``--env-file``, whose variables are added to the environment
5. files that the program has loaded (``env.load``), the first before the later ones

    port = int(env.get("port") or 8080)

In a plain script, which isn't started by the launcher, there is no 2 and no 4.
"""

from __future__ import annotations

import os
from typing import Any

from ._shown import shown

_values: dict[str, Any] = {}
_loaded: dict[str, Any] = {}
"""What ``load`` has read."""


def get(key: str) -> Any:
    """Returns the value of ``key``, or None if there is none. A value from the command
    line or the environment is a ``str``; an empty one is "". Keys are not nested: a dot
    in one means nothing.

        addr = env.get("addr") or "127.0.0.1:8080"
    """
    if key in _values:
        return _values[key]
    if isinstance(key, str):
        value = os.environ.get(f"SILLY_{key.upper().replace('.', '_').replace('-', '_')}")
        if value is not None:
            return value
    return _loaded.get(key)


def set(key: str, value: Any) -> None:
    """Sets ``key`` to ``value``. None removes the key; then what the environment says
    counts, if it says something.

        env.set("port", 8080)
    """
    if value is None:
        _values.pop(key, None)
        _loaded.pop(key, None)
    else:
        _values[key] = value


def load(path: str | os.PathLike[str]) -> str | None:
    """Reads settings from a file of assignments, as upstream has them (the
    documentation of what is understood: ``docs/deploying.md``). Nothing in it is run.

        err = env.load("app.conf")          # server = { port = 8080 }
        if err is not None:
            print(err)                      # -> app.conf: No such file or directory
        port = env.get("server.port") or 8080

    Returns None, or what is wrong, with file and line; then nothing is set. Tables have
    flat keys. A key that has a value already keeps it. The name of a file that is
    included is relative to the working directory. Raises TypeError if ``path`` is none.
    """
    from . import _assignments

    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"env.load takes the path of a file, not {type(path).__name__}")
    name = os.fspath(path)
    try:
        found = _assignments.read(name)
    except (OSError, ValueError) as exc:  # ValueError: a null character in the path
        return f"{shown(name)[1:-1]}: {getattr(exc, 'strerror', None) or exc}"
    except _assignments.Mistake as exc:
        return str(exc)
    for key, value in found.items():
        _loaded.setdefault(key, value)
    return None
