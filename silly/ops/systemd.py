"""Telling systemd how the program is: sd_notify(3), for ``Type=notify``.

It sends lines such as ``READY=1`` in a datagram to the socket that ``NOTIFY_SOCKET``
names. systemd goes on with what waits for the service when it is ready. With
``WatchdogSec=`` it also wants a sign of life now and then, and kills the process if
none comes. A timer of the loop sends it, so a task that holds the loop for too long
gets the process killed.

``begin`` is all that a process needs that serves itself. A master, which has no loop,
calls ``take`` before it starts its workers, and then ``alive`` and those of ``Changes``
in each of its turns.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import Any

from .._core import ending, scheduler
from .._core.loop import monotonic
from .._log import task as logger
from .._shown import counted, shown
from ..net import _passed
from .ready import when_ready

AGAIN = 0.1
"""Seconds until a message is sent again that systemd had no room for."""
MARGIN = 3000
"""Milliseconds that an end may take beside its notice and drain: ``finally`` blocks,
output that is still sent, and the end by force."""
UNUSED = 10.0
"""Seconds after the program is ready in which it may begin to listen on what systemd
has passed."""

_loop = scheduler.loop


class _Systemd:
    """What the environment said. ``sock`` is None if nobody wants to be told."""

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.addr = ""
        self.interval = 0.0
        """Seconds between two signs of life; 0.0: none is wanted."""
        self.due = 0.0
        """When the next one is due."""
        self.unsent: deque[bytes] = deque()
        self.waits = False
        """Whether a timer will send what is unsent."""


_systemd = _Systemd()


class Changes:
    """Tells systemd each change of a master once."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told = "starts"

    def serves(self, workers: int) -> None:
        """So many workers serve, and no further one is about to."""
        if self._told != "serves":
            self._told = "serves"
            ready(f"serving with {counted(workers, 'worker')}")

    def reloads(self) -> None:
        """All workers are being replaced, by SIGHUP."""
        if self._told == "serves":
            self._told = "reloads"
            reloading()

    def stops(self, ms: int) -> None:
        """The workers end, and have ``ms`` milliseconds."""
        if self._told != "stops":
            self._told = "stops"
            stopping(ms)


def begin() -> None:
    """For a process that serves itself: tells systemd when it is ready and when it
    ends. The launcher calls it before the script runs."""
    if take():
        if _systemd.interval:
            _alive()
        when_ready(_ready)
        ending.at_begin(lambda: stopping(ending.plan.notice + ending.plan.drain))
    when_ready(lambda: _loop.timers.add(monotonic() + UNUSED, _warn_unused, internal=True))


def take() -> bool:
    """Takes the variables of sd_notify out of the environment, so that no child tells
    systemd anything. Returns whether systemd wants to be told."""
    addr, usec, pid = (os.environ.pop(name, None) for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
    if not addr:
        return False
    if addr[0] not in "/@":
        logger.warn(f"systemd is told nothing: NOTIFY_SOCKET is {shown(addr)}, and not '/path' or '@name'")
        return False
    _systemd.addr = "\0" + addr[1:] if addr[0] == "@" else addr
    _systemd.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    _systemd.sock.setblocking(False)
    if usec and pid in (None, "", str(os.getpid())):
        if not usec.isascii() or not usec.isdigit() or not 0 < int(usec) < 2**63:
            logger.warn(f"systemd gets no signs of life: WATCHDOG_USEC is {shown(usec)}")
        else:
            _systemd.interval = int(usec) / 2e6
    return True


def ready(status: str = "serving") -> None:
    """The program is ready; or, after ``reloading``, has reloaded. ``status`` is what
    ``systemctl status`` shows: a few words."""
    say("READY=1", f"STATUS={status}")


def reloading() -> None:
    """The program begins to reload, by a signal; ``ready`` must follow. systemd 253 and
    later wait for that with ``Type=notify-reload``."""
    say("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}", "STATUS=reloading")


def stopping(ms: int) -> None:
    """The program ends, and has ``ms`` milliseconds for it. systemd waits so long and
    ``MARGIN`` before it kills, even if ``TimeoutStopSec=`` is less."""
    say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={(ms + MARGIN) * 1000}", f"STATUS=ending, within {ms / 1000:g} s")


def alive(now: float) -> float | None:
    """Sends a sign of life if one is due at ``now``, in seconds of ``monotonic``.
    Returns when the next is due; None if none is wanted."""
    if not _systemd.interval:
        return None
    if now >= _systemd.due:
        _systemd.due = now + _systemd.interval
        if _systemd.unsent:
            _send()  # one more would only wait too
        else:
            say("WATCHDOG=1")
    return _systemd.due


def say(*lines: str) -> None:
    """Sends a message of these lines, such as ``"STATUS=busy"``. Never waits, and does
    nothing if nobody wants to be told. A failure is logged."""
    if _systemd.sock is not None and not scheduler.in_child:
        _systemd.unsent.append("\n".join(lines).encode())
        _send()


def _send() -> None:
    sock, unsent = _systemd.sock, _systemd.unsent
    assert sock is not None
    while unsent:
        try:
            sock.sendto(unsent[0], _systemd.addr)
        except BlockingIOError:
            if not _systemd.waits:
                _systemd.waits = True
                _loop.timers.add(monotonic() + AGAIN, _send_again, internal=True)
            return
        except OSError as exc:
            text = f"systemd is not told {shown(unsent[0].decode())}: {exc.strerror or exc}"
            logger.limited("systemd", text, logger.WARN)
        unsent.popleft()


def _send_again(_: Any) -> None:
    _systemd.waits = False
    _send()


def _alive(_: Any = None) -> None:
    due = alive(monotonic())
    assert due is not None
    _loop.timers.add(due, _alive, internal=True)


def _ready() -> None:
    if scheduler.begins:  # it may have begun to end before it was ready
        ready()


def _warn_unused(_: Any) -> None:
    unused = _passed.left_over() if scheduler.begins else []
    if unused:
        names = ", ".join(f"{shown(each.name)} (descriptor {each.fd})" for each in unused)
        logger.warn(f"systemd has passed sockets that nothing here listens on, so clients wait there in vain: {names}")
