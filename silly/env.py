"""Settings of the process: the ``--key=value`` arguments of the launcher, and what the
program sets itself.

    # python -m silly app.py --port=8080
    port = int(env.get("port") or 8080)
"""

from __future__ import annotations

from typing import Any

_values: dict[str, Any] = {}


def get(key: str) -> Any:
    """Returns the value of ``key``, or None if there is none. A value from the command
    line is a ``str``. Keys are not nested: a dot in one means nothing.

        addr = env.get("addr") or "127.0.0.1:8080"
    """
    return _values.get(key)


def set(key: str, value: Any) -> None:
    """Sets ``key`` to ``value``; None removes the key."""
    if value is None:
        _values.pop(key, None)
    else:
        _values[key] = value
