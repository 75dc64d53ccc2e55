"""The master of ``--workers N``: starts N processes that run the script, lends them
their sockets, and keeps their number.

It imports nothing of the application, and starts each worker by exec: no process with a
loop or threads is forked. It runs in plain blocking Python, without the loop: after
each event ``_act`` looks at everything that may be due, so no timer is ever left over.

* **Sockets**: ``_sockets.py``.
* **A worker that ends unasked** has a successor: at once, if it begins to drain, or was
  killed; then with back-off (``_crew.py: Slot.ended``). A slot that rests is tried
  again after ``REST`` seconds. When all rest, the master ends with status 1. A script
  that came to its end has nothing left to do, and no successor.
* **Replacing**, for SIGHUP, memory or age: ``_replacing.py``.
* **The end**: the first SIGTERM or SIGINT lets all drain, the second kills.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections import deque
from contextlib import suppress
from dataclasses import replace
from types import FrameType

from .._core.ending import FINALLY
from .._core.loop import monotonic
from .._log import task as logger
from .._shown import counted
from . import _link, logfile, ready, systemd
from ._another import command, in_words
from ._crew import Life, Member, Slot
from ._replacing import Replacements, size
from ._sockets import Sockets
from .options import Options

MARGIN = 1.5
"""Seconds that a worker has, past its own time, until it is killed."""
LONGEST = 3600.0
"""The most seconds of one wait: epoll takes no more than 24 days."""
TOLD = 0.25
"""The most seconds until all workers know how long the notice is."""

_END = (signal.SIGTERM, signal.SIGINT)
_PASSED = (signal.SIGUSR1, signal.SIGUSR2)


class Master:
    """See the module's header."""

    def __init__(self, options: Options, command: list[str]) -> None:
        self._options = options
        self._command = command
        self._slots = [Slot(number) for number in range(1, options.workers + 1)]
        self._members: dict[int, Member] = {}
        """The workers whose processes have not ended, by pid."""
        self._sockets = Sockets(options.workers)
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._replacements = Replacements(options, self._slots, self._start, lambda member: member.end(self._time()))
        self._ending = 0
        """The signal that began the end."""
        self._term_at: float | None = None
        """When the workers get their SIGTERM."""
        self._close_at: float | None = None
        """When the sockets are closed."""
        self._forced = False
        """Whether a worker was ended by force."""
        self._changes: systemd.Changes | None = None
        """What systemd is told, if it wants to be."""
        self._alive_at: float | None = None
        """When it gets its next sign of life."""

    # ---- the loop --------------------------------------------------------------------

    def run(self) -> int:
        """Runs until the end, and returns the status of the process."""
        if systemd.take():
            self._changes = systemd.Changes()
        reads, writes = socket.socketpair()
        with reads, writes, self._selector:
            reads.setblocking(False)
            writes.setblocking(False)
            self._selector.register(reads, selectors.EVENT_READ)
            signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
            try:
                for number in (*_END, *_PASSED, signal.SIGHUP, signal.SIGCHLD):
                    # A shell lets what a script starts with "&" ignore Ctrl-C.
                    if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                        signal.signal(number, self._on_signal)
                # The workers, who inherit it, are in the background of a terminal:
                # after "stty tostop" their first line would stop them, for ever.
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
                logger.info(f"the master has pid {os.getpid()}, and starts {counted(len(self._slots), 'worker')}")
                while (status := self._over()) is None:
                    self._turn(reads)
            finally:
                signal.set_wakeup_fd(-1)
                self._leave_nothing()
        return status

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)

    def _turn(self, reads: socket.socket) -> None:
        while self._signals:
            self._signalled(self._signals.popleft())
        self._act(monotonic())
        if self._over() is not None:
            return
        when = self._next()
        for key, _ in self._selector.select(None if when is None else min(LONGEST, max(0.0, when - monotonic()))):
            if key.data is None:
                with suppress(BlockingIOError):
                    reads.recv(4096)
            else:
                self._read(key.data)
        for member in list(self._members.values()):
            if (status := member.poll()) is not None:
                self._gone(member, status)

    def _next(self) -> float | None:
        """Returns when something is due next; None: nothing is."""
        due = [self._term_at, self._close_at, self._alive_at]
        due += [each.kill_at for each in self._members.values()]
        if not self._ending:
            due += [slot.start_at for slot in self._slots]
            due += self._replacements.due()
        return min((each for each in due if each is not None), default=None)

    def _act(self, now: float) -> None:
        """Does what is due."""
        if self._settled:
            ready.now()  # a daemon waits for that
        if self._changes is not None:
            self._tell_systemd(self._changes)
            self._alive_at = systemd.alive(now)
        for member in list(self._members.values()):
            if member.kill_at is not None and now >= member.kill_at:
                logger.error(f"{member} has not ended in time, and is killed")
                self._forced = bool(self._ending)
                member.kill()
        if self._ending:
            self._act_at_end(now)
        else:
            for slot in self._slots:
                if slot.start_at is not None and now >= slot.start_at:
                    self._start(slot)
            self._replacements.act(now)
        if self._close_at is not None or not self._ending:
            self._sockets.settle(self._members.values(), bool(self._ending) or any(slot.coming for slot in self._slots))

    @property
    def _settled(self) -> bool:
        """Whether a worker serves, and no further one is about to."""
        waits = self._replacements.under_way or any(slot.coming for slot in self._slots)
        return not self._ending and not waits and any(slot.serves for slot in self._slots)

    def _tell_systemd(self, changes: systemd.Changes) -> None:
        if self._ending:
            changes.stops(self._options.notice + self._options.drain + int(FINALLY * 1000))
        elif self._replacements.reloads:
            changes.reloads()
        elif self._settled:
            changes.serves(sum(slot.serves for slot in self._slots))

    def _over(self) -> int | None:
        """Returns the status once all is over."""
        if self._members:
            return None
        if self._ending:
            return 128 + self._ending if self._forced else 0
        if all(slot.done or slot.rests for slot in self._slots):
            if not any(slot.rests for slot in self._slots):
                logger.info("no worker has anything left to do")
                return 0
            logger.error("all workers have failed again and again, so the master ends")
            return 1
        return None

    def _leave_nothing(self) -> None:
        """Closes the sockets, and kills the workers that there are: something has
        failed here."""
        self._sockets.close()
        for member in self._members.values():
            member.kill()

    # ---- workers ---------------------------------------------------------------------

    def _start(self, slot: Slot) -> Member | None:
        """Starts a worker, or a successor if there is one."""
        slot.start_at = None
        try:
            member = Member(slot.number, self._command)
        except OSError as exc:
            again = f": the next try is in {slot.ended(was_ready=False):g} s" if slot.worker is None else ""
            logger.error(f"worker {slot.number} can't be started ({exc.strerror}){again}")
            return None
        if slot.worker is None:
            slot.worker = member
        else:
            slot.successor = member
        self._members[member.pid] = member
        self._selector.register(member.link, selectors.EVENT_READ, member)
        logger.info(f"{member} is started")
        return member

    def _read(self, member: Member) -> None:
        """Reads what a worker says."""
        for _ in range(_link.AT_ONCE):
            try:
                message = _link.receive(member.link)
                if message is None:
                    self._forget_link(member)
                    return
                _link.close(message.fds)  # none belongs to any message
                member.known = True
                self._hear(member, message)
            except BlockingIOError:
                return
            except (KeyError, OverflowError, TypeError, ValueError) as exc:
                logger.error(f"{member} is killed: it has sent what no worker sends: {type(exc).__name__}: {exc}")
                self._forget_link(member)
                member.kill()
                return

    def _forget_link(self, member: Member) -> None:
        with suppress(KeyError):
            self._selector.unregister(member.link)

    def _hear(self, member: Member, message: _link.Message) -> None:
        op, fields, _, _ = message
        slot = self._slots[member.slot - 1]
        if op == "listen":
            self._sockets.lend(member, fields)
        elif op == "closed":
            if member.leases.get(fields["key"]) == fields["lease"]:
                del member.leases[fields["key"]]
        elif op == "declined":
            member.declined = True
            self._sockets.declined(member, fields["key"], fields["slot"])
        elif op == "noticed":
            member.noticed = True
        elif op == "done":
            member.done = True
        elif op == "ready" and member.life is Life.STARTING:
            self._ready(slot, member)
        elif op == "stopping":
            member.told = bool(fields["signal"])
            if member.life is Life.READY:
                member.life = Life.DRAINING
                member.kill_at = monotonic() + self._time()
                if not member.done and not self._ending:
                    self._unasked(slot, member, "begins to end")

    def _ready(self, slot: Slot, member: Member) -> None:
        now = monotonic()
        member.life = Life.READY
        member.ready_since = now
        slot.rests = False
        logger.info(f"{member} is ready, {now - member.started:.1f} s after its start")
        self._replacements.ready(slot, member)

    def _unasked(self, slot: Slot, member: Member, what: str) -> None:
        """A worker has ended, or begins to, and the master has not asked it to."""
        successor = slot.successor
        if member is successor:
            self._replacements.failed(slot, f"{member} {what}")
            return
        slot.worker, slot.successor = successor, None
        if successor is not None:
            logger.warn(f"{member} {what}; {successor} starts already")
            return
        self._replacements.over(slot)
        wait = slot.ended(member.ready_since is not None, member.told)
        if slot.rests:
            logger.error(f"{member} {what}. Worker {slot.number} has ended again and again: the next try is in {wait:g} s")
        else:
            again = f"in {wait:g} s" if wait else "now"
            logger.warn(f"{member} {what}; another is started {again}")

    def _gone(self, member: Member, status: int) -> None:
        """The process of a worker has ended."""
        self._read(member)  # its last words
        self._drop(member)
        slot = self._slots[member.slot - 1]
        what = in_words(status)
        if status > 128 and self._ending:
            self._forced = True
        if self._ending or member not in (slot.worker, slot.successor):
            logger.info(f"{member} {what}")
        elif member.done and status == 0:
            logger.info(f"{member} {what}: nothing was left to do")
            slot.done = slot.successor is None
            slot.worker, slot.successor = slot.successor, None
        else:
            member.told = member.told or -status in _END
            self._unasked(slot, member, what)

    def _drop(self, member: Member) -> None:
        del self._members[member.pid]
        member.leases.clear()
        self._forget_link(member)
        member.link.close()

    # ---- signals and the end ---------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if number in _PASSED:
            if number == signal.SIGUSR2:
                self._tell()
            else:
                logfile.reopen()
            for member in self._members.values():
                if member.known:
                    member.signal(number)
        elif number == signal.SIGHUP and not self._ending:
            self._replacements.want_all()
        elif number in _END:
            self._end(number)

    def _tell(self) -> None:
        """Logs how the workers are."""
        for slot in self._slots:
            if slot.worker is None:
                logger.info(f"worker {slot.number}: {'rests' if slot.rests else 'done' if slot.done else 'is started soon'}")
        now = monotonic()
        for member in self._members.values():
            logger.info(f"{member}: {member.life.value}, {now - member.started:.0f} s old, {size(member.rss())}")

    def _end(self, number: int) -> None:
        """SIGTERM or SIGINT has come."""
        name = signal.Signals(number).name
        if self._ending:
            logger.warn(f"{name} again: {counted(len(self._members), 'worker')} killed")
            self._forced = True
            self._ending = number
            for member in self._members.values():
                member.kill()
            return
        self._ending = number
        now = monotonic()
        logger.info(f"{name}: {counted(len(self._members), 'worker')} told to drain and end")
        self._term_at = self._close_at = now
        if self._options.notice:
            # So long the workers go on. They must know it when their signal comes.
            self._term_at = self._close_at = now + TOLD
            for member in self._members.values():
                member.noticed = not member.say("notice", ms=self._options.notice)

    def _act_at_end(self, now: float) -> None:
        members = self._members.values()
        if self._term_at is not None and (now >= self._term_at or all(each.noticed for each in members)):
            self._term_at = None
            notice = self._options.notice / 1000
            # Just before the workers close theirs: then none is reset while somebody
            # accepts from it, and nobody waits where nobody accepts.
            self._close_at = now + 0.9 * notice
            if not notice:
                self._close()
            for member in members:
                member.end(notice + self._time())
        elif self._term_at is None and self._close_at is not None and now >= self._close_at:
            self._close()

    def _close(self) -> None:
        self._close_at = None
        self._sockets.close()
        for member in self._members.values():
            member.say("alone")

    def _time(self) -> float:
        """The most seconds that a worker takes to end, without a notice."""
        return self._options.drain / 1000 + FINALLY + MARGIN


def run(options: Options, args: list[str]) -> int:
    """Runs workers with the script and its arguments, ``args``. Returns the status of
    the process."""
    # The master times the notice, for all: a worker that is replaced needs none.
    theirs = replace(options, workers=0, notice=0, max_rss=0, max_age=0, pid_file=None)
    return Master(options, command(theirs, args)).run()
