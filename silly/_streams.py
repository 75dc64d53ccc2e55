"""The places of the standard streams, 0 to 2. A process may be started without them
(``<&- >&-``). The next descriptor that is opened would take such a place: the loop's
own, or a connection, to which any code in C could then write its errors. So they get
``/dev/null``, before anything is opened."""

from __future__ import annotations

import os
import sys


def hold_places() -> None:
    """Opens ``/dev/null`` where a standard stream is closed. ``sys.stdout`` and so on
    stay None."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this
            os.set_inheritable(fd, True)


if sys.stdin is None or sys.stdout is None or sys.stderr is None:
    hold_places()
