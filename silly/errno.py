"""The errors of the transports, as constants.

``silly.net.tcp``, ``silly.net.tls`` and ``silly.net.udp`` return these texts as
``err``. Compare with ``==``:

    line, err = conn.read("\\n", 10)
    if err == errno.TIMEDOUT:
        print("nothing came")           # -> nothing came

The errors of all other modules are texts for people: log them, don't branch on them.
Those of the HTTP client have one of these constants too, as ``err.errno``. An error of
the operating system that has no name here is its own text and number, such as ``"No
child processes (10)"``.
"""

from __future__ import annotations

import errno as _os_errno
import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import NoReturn as _NoReturn

__all__ = [
    "ACCES", "ADDRINUSE", "ADDRNOTAVAIL", "AFNOSUPPORT", "AGAIN", "ALREADY", "BADF", "CLOSED", "CLOSING",
    "CONNABORTED", "CONNREFUSED", "CONNRESET", "DESTADDRREQ", "EOF", "FAULT", "HOSTUNREACH", "INPROGRESS", "INTR",
    "INVAL", "ISCONN", "MFILE", "MSGSIZE", "NETDOWN", "NETRESET", "NETUNREACH", "NFILE", "NOBUFS", "NOMEM",
    "NOPROTOOPT", "NOSOCKET", "NOTCONN", "NOTSOCK", "OPNOTSUPP", "PIPE", "PROTONOSUPPORT", "PROTOTYPE", "RESOLVE",
    "TIMEDOUT", "TLS", "WOULDBLOCK", "from_oserror",
]  # fmt: skip

_by_code: dict[int, str] = {}


def _os_error(name: str, text: str) -> str:
    code = getattr(_os_errno, "E" + name)
    # EAGAIN and EWOULDBLOCK share a number on most systems: both names are then the
    # same string.
    return _by_code.setdefault(code, f"{text} ({code})")


INTR = _os_error("INTR", "Interrupted system call")
ACCES = _os_error("ACCES", "Permission denied")
BADF = _os_error("BADF", "Bad file descriptor")
FAULT = _os_error("FAULT", "Bad address")
INVAL = _os_error("INVAL", "Invalid argument")
MFILE = _os_error("MFILE", "Too many open files")
NFILE = _os_error("NFILE", "Too many open files in system")
NOMEM = _os_error("NOMEM", "Cannot allocate memory")
NOBUFS = _os_error("NOBUFS", "No buffer space available")
NOTSOCK = _os_error("NOTSOCK", "Socket operation on non-socket")
OPNOTSUPP = _os_error("OPNOTSUPP", "Operation not supported")
AFNOSUPPORT = _os_error("AFNOSUPPORT", "Address family not supported by protocol")
PROTONOSUPPORT = _os_error("PROTONOSUPPORT", "Protocol not supported")
ADDRINUSE = _os_error("ADDRINUSE", "Address already in use")
ADDRNOTAVAIL = _os_error("ADDRNOTAVAIL", "Cannot assign requested address")
NETDOWN = _os_error("NETDOWN", "Network is down")
NETUNREACH = _os_error("NETUNREACH", "Network is unreachable")
NETRESET = _os_error("NETRESET", "Network dropped connection on reset")
HOSTUNREACH = _os_error("HOSTUNREACH", "No route to host")
CONNABORTED = _os_error("CONNABORTED", "Software caused connection abort")
CONNRESET = _os_error("CONNRESET", "Connection reset by peer")
CONNREFUSED = _os_error("CONNREFUSED", "Connection refused")
TIMEDOUT = _os_error("TIMEDOUT", "Operation timed out")
ISCONN = _os_error("ISCONN", "Transport endpoint is already connected")
NOTCONN = _os_error("NOTCONN", "Transport endpoint is not connected")
INPROGRESS = _os_error("INPROGRESS", "Operation now in progress")
ALREADY = _os_error("ALREADY", "Operation already in progress")
AGAIN = _os_error("AGAIN", "Resource temporarily unavailable")
WOULDBLOCK = _os_error("WOULDBLOCK", "Operation would block")
PIPE = _os_error("PIPE", "Broken pipe")
DESTADDRREQ = _os_error("DESTADDRREQ", "Destination address required")
MSGSIZE = _os_error("MSGSIZE", "Message too long")
PROTOTYPE = _os_error("PROTOTYPE", "Protocol wrong type for socket")
NOPROTOOPT = _os_error("NOPROTOOPT", "Protocol not available")

# Errors that no operating system has; the numbers are upstream's.
RESOLVE = "Address resolution failed (10000)"
NOSOCKET = "No free socket available (10001)"
CLOSING = "Socket is closing (10002)"
CLOSED = "Socket is closed (10003)"
EOF = "End of file (10004)"
TLS = "TLS error (10005)"


def from_oserror(exc: OSError) -> str:
    """Returns the constant for an ``OSError``, or its text and number if there is none.
    """
    code = exc.errno
    if isinstance(exc, TimeoutError) and code is None:
        return TIMEDOUT
    if code is None:
        return str(exc)
    return _by_code.get(code) or f"{_os.strerror(code)} ({code})"


if not _TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> _NoReturn:
        text = f"module {__name__!r} has no attribute {name!r}"
        if not name.startswith("_") and hasattr(_os_errno, name):
            ours = f"use errno.{name[1:]}, a text, or " if name[1:] in __all__ else ""
            text = f"{text}: it is not the standard library's; {ours}import errno as numbers, and write numbers.{name}"
        raise AttributeError(text)
