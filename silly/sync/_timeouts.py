"""The check of a time-out, for all of ``silly.sync``."""

from __future__ import annotations

from .._core.callers import seconds_meant
from .._wire.numbers import check_ms


def check_timeout(call: str, timeout: float) -> None:
    """Raises TypeError or ValueError if ``timeout`` is no time in milliseconds."""
    check_ms(f"{call}: the time-out", timeout)
    if 0 < timeout < 1:
        seconds_meant(timeout)
