"""The lines at the top of a response with an ordinary header, and the line of Date.

``_answer_speedups.c`` has ``answer_lines`` in C. ``http1.response_lines`` makes the
same lines for any header, and decides what may not be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time

from .date import http_date
from .header import check_name
from .numbers import MOST

_LEFT = frozenset(("connection", "date", "transfer-encoding"))
"""Fields that ``answer_lines`` leaves to ``response_lines``: two say how the message
ends, and a Date of the program's own takes the place of ours."""

_date = (0, b"")


def date_line() -> bytes:
    """The line of the Date field (RFC 9110, section 5.6.7), made once a second."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, b"date: %b\r\n" % http_date(now).encode())
    return _date[1]


def answer_lines(
    status: object, fields: object, first_lines: Mapping[int, bytes], /
) -> tuple[bytes, int | None] | None:
    """The first line of a response, the lines of its ``fields``, and its Date; with the
    length that Content-Length gives, whose line is left out.

    None if anything is unusual, allowed or not: a status that isn't in ``first_lines``;
    ``fields`` that aren't None or a dict; a name that isn't valid, or in ``_LEFT``;
    a value that is no str of printable ASCII and no int of 64 bits; a Content-Length
    that is no int of 0 or more, or a second one. In C also if the lines are longer than
    2 KiB.
    """
    first = first_lines.get(status) if type(status) is int else None
    if first is None or (fields is not None and type(fields) is not dict):
        return None
    text = ""
    length = None
    for name, value in fields.items() if fields is not None else ():
        if type(value) is int:
            if not -MOST - 1 <= value <= MOST:
                return None
        elif type(value) is not str or not (value.isascii() and value.isprintable()):
            return None
        if type(name) is not str:
            return None
        try:
            name = check_name(name)
        except ValueError:
            return None
        if name == "content-length":
            if type(value) is not int or value < 0 or length is not None:
                return None
            length = value
        elif name in _LEFT:
            return None
        else:
            text = f"{text}{name}: {value}\r\n"
    return b"%b%b%b" % (first, text.encode(), date_line()), length
