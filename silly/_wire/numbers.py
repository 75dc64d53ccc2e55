"""Checks of the numbers that a program gives, shared by all that take some.

A number out of range raises ValueError where it is given, in words, and not an
OverflowError later, in the middle of something else.
"""

from __future__ import annotations

from .._shown import shown

MOST_MS = 36_525 * 86_400_000
"""The longest time, in milliseconds: a hundred years. Every time of the library,
added to any clock, is exact to less than a millisecond up to there."""
MOST = 2**63 - 1
"""The largest size in bytes, and the largest count: what the length field of a
WebSocket frame holds, and a file's size."""


def check_ms(what: str, ms: object, positive: bool = False) -> None:
    """Raises ValueError if ``ms`` is not from 0 to ``MOST_MS`` milliseconds (with
    ``positive``: more than 0), and TypeError if it is no number. ``what`` names it."""
    if isinstance(ms, bool) or not isinstance(ms, (int, float)):
        raise TypeError(f"{what} is a number of milliseconds, not {type(ms).__name__}")
    if not 0 <= ms <= MOST_MS or (positive and not ms):
        raise bad_ms(what, ms, positive)


def bad_ms(what: str, ms: object, positive: bool = False) -> ValueError:
    """Returns the error for a time that is out of range."""
    least = "more than 0" if positive else "0"
    return ValueError(f"{what} is in milliseconds, from {least} to {MOST_MS} (100 years), not {shown(ms)}")


def check_int(what: str, value: object, least: int = 0, most: int = MOST) -> None:
    """Raises ValueError if ``value`` is not an int from ``least`` to ``most``. ``what``
    names it."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what} is an int from {least} to {most}, not {shown(value)}")
