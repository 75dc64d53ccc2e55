"""Settings of the process (upstream: ``silly.env``): the ``--key=value`` arguments of the launcher, and what a program sets.

    # python -m silly app.py --port=8080
    port = int(env.get("port") or 8080)
"""

from __future__ import annotations

from typing import Any

_values: dict[str, Any] = {}


def get(key: str) -> Any:
    """The value of ``key`` (a ``str`` when it came from the command line), or ``None``. Keys are literal: no nesting."""
    return _values.get(key)


def set(key: str, value: Any) -> None:
    """Sets ``key``; ``None`` removes it."""
    if value is None:
        _values.pop(key, None)
    else:
        _values[key] = value
