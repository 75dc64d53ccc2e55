"""Keys of mutexes and single flights."""

from __future__ import annotations

from typing import Any

__all__ = ["key_of"]


class _Identity:
    """Stands for a dict as a key: equal only to what stands for the same dict."""

    __slots__ = ("_value",)

    def __init__(self, value: dict[Any, Any]) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other._value is self._value


def key_of(key: Any) -> Any:
    """Returns what stands for ``key`` in a dictionary: a dict, which can't be hashed,
    is a key by its identity, as a table is in Lua."""
    return _Identity(key) if isinstance(key, dict) else key
