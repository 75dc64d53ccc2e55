"""Dates as HTTP writes them (RFC 9110, section 5.6.7).

Written by hand: importing ``email.utils`` takes longer than importing all of HTTP.
"""

from __future__ import annotations

from functools import lru_cache
from time import gmtime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """A time, in seconds since the epoch, as HTTP writes it.

    For example ``"Sun, 06 Nov 1994 08:49:37 GMT"``.
    """
    when = gmtime(seconds)
    clock = f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    return f"{_DAYS[when.tm_wday]}, {when.tm_mday:02} {MONTHS[when.tm_mon - 1]} {when.tm_year:04} {clock} GMT"
