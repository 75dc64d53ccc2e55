"""The workers of a master: their processes, and the slots whose work they do."""

from __future__ import annotations

import os
import signal
import subprocess
from enum import Enum
from typing import Any

from .._core.loop import monotonic
from ..net import _passed
from . import _link
from ._another import LINK
from .state import memory

ENDS = 5
"""So many unasked ends, within ``WITHIN`` seconds, or of workers that were never ready:
then the slot rests."""
WITHIN = 10.0
REST = 30.0
"""Seconds until a slot that rests is tried again."""
BACK_OFF = 0.1
"""Seconds before the third start; before each further one twice as long. The second is
at once."""


class Life(Enum):
    """How far a worker has come."""

    STARTING = "starts"
    READY = "ready"
    DRAINING = "drains"
    """Its end has begun."""


class Member:
    """One worker: a process, and the link to it. Raises OSError if it can't be
    started."""

    def __init__(self, slot: int, command: list[str]) -> None:
        self.slot = slot
        self.life = Life.STARTING
        self.link, theirs = _link.new_pair()
        environ = {key: value for key, value in os.environ.items() if key not in _passed.VARIABLES}
        environ[LINK] = f"{theirs.fileno()}:{slot}"
        try:
            # A process group of its own: Ctrl-C in a terminal is for the master, which
            # passes it on. There a group in the background must not read.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0, env=environ
            )
        except BaseException:
            self.link.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self.started = monotonic()
        self.ready_since: float | None = None
        self.known = False
        """Whether it has said something: from then on it has handlers for signals."""
        self.told = False
        """Whether somebody else than the master has told it to end, by a signal. That
        is no failure."""
        self.done = False
        """Whether its script came to its end, and nothing was left to do."""
        self.declined = False
        """Whether it has no descriptors for the sockets of others."""
        self.noticed = False
        """Whether it knows how long the notice is."""
        self.kill_at: float | None = None
        """When it is killed, if it has not ended."""
        self.old_at: float | None = None
        """When it is replaced for its age."""
        self.large = False
        """Whether it was over the limit of memory from the start."""
        self.leases: dict[str, int] = {}
        """What it listens on: the number of the lease, by key."""

    @property
    def adopts(self) -> bool:
        """Whether it can accept for another slot."""
        return self.life is Life.READY and not self.declined

    def say(self, op: str, fds: list[int] | None = None, **fields: Any) -> bool:
        """Sends a message. Returns False if that can't be done."""
        return _link.send(self.link, op, fds or (), **fields)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, within: float) -> None:
        """Tells it to drain and end, within so many seconds."""
        self.life = Life.DRAINING
        self.kill_at = monotonic() + within
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once, and what it has started in its process group."""
        self.kill_at = None
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.signal(signal.SIGKILL)  # it is not its group's leader yet

    def poll(self) -> int | None:
        """Returns its status if it has ended: -N if signal N ended it."""
        return self._process.poll()

    def rss(self) -> int:
        """Returns the bytes of memory that it has now; 0 if that can't be known."""
        return memory(self.pid) or 0

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"


class Slot:
    """A place for one worker at a time, and for its successor while that starts."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Member | None = None
        self.successor: Member | None = None
        self.start_at: float | None = 0.0
        """When a worker is started, if none is there."""
        self.rests = False
        """Whether its workers have failed again and again."""
        self.done = False
        """Whether its worker had nothing left to do."""
        self.not_before = 0.0
        """When its worker may be replaced again for its age or memory: a successor has
        not come up."""
        self._ends: list[float] = []

    @property
    def serves(self) -> bool:
        """Whether its worker is ready."""
        return self.worker is not None and self.worker.life is Life.READY

    @property
    def coming(self) -> bool:
        """Whether a worker may yet listen here."""
        starting = any(each is not None and each.life is Life.STARTING for each in (self.worker, self.successor))
        return starting or (self.start_at is not None and not self.rests)

    def ended(self, was_ready: bool, told: bool = False) -> float:
        """Its worker has ended without being asked, or could not be started. Returns
        the seconds until the next is. ``told``: as ``Member.told``."""
        now = monotonic()
        if told:
            self.start_at = now
            return 0.0
        if was_ready:
            self._ends = [each for each in self._ends if each > now - WITHIN]
        self._ends.append(now)
        count = len(self._ends)
        self.rests = count >= ENDS
        wait = REST if self.rests else 0.0 if count == 1 else BACK_OFF * 2.0 ** (count - 2)
        self.start_at = now + wait
        return wait

    def fresh(self) -> None:
        """Forgets what has failed."""
        self._ends.clear()
        self.rests = self.done = False
