"""A worker: a process that a master has started; see ``master.py``.

It listens on sockets that the master lends it, says how it is, and ends when the master
is gone. Nothing here is loaded without a master.
"""

from __future__ import annotations

import errno as os_errno
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import env
from .._core import ending, scheduler
from .._core.loop import READ, QuietHandler, monotonic
from .._core.waiting import Leaving, Waiters
from .._log import task as logger
from .._shown import shown
from ..net import _binding
from ..net._binding import Bound, Place
from ..net._inherited import Unusable
from . import _link, ready
from ._another import LINK

_loop = scheduler.loop


class NoMaster(Exception):
    """The environment names no link to a master. The text says why."""


class Lent(Bound):
    """Sockets of the master's. To close them ends this worker's lease: the connections
    that wait there stay for the next process that accepts, unless these are the
    ``last`` copies."""

    __slots__ = ("_adopted", "_closed", "_last", "_let_go", "_take")

    def __init__(self, socks: list[socket.socket], last: Callable[[], bool], closed: Callable[[], object]) -> None:
        super().__init__(socks)
        self._last = last
        self._closed = closed
        self._take: Callable[[socket.socket], object] | None = None
        self._let_go: Callable[[socket.socket], object] | None = None
        self._adopted: dict[int, list[socket.socket]] = {}
        """The sockets of other slots, by the number of the slot."""

    def opened(self, take: Callable[[socket.socket], object], let_go: Callable[[socket.socket], object]) -> None:
        self._take, self._let_go = take, let_go
        for sock in itertools.chain(*self._adopted.values()):
            take(sock)

    def adopt(self, slot: int, socks: list[socket.socket]) -> None:
        """Accepts from the sockets of another slot too."""
        self._adopted[slot] = socks
        if self._take is not None:
            for sock in socks:
                self._take(sock)

    def release(self, slot: int) -> None:
        """Ends ``adopt``."""
        for sock in self._adopted.pop(slot, ()):
            if self._let_go is not None:
                self._let_go(sock)
            elif sock in self.socks:
                self.socks.remove(sock)
            sock.close()

    def close(self) -> None:
        self.disown()
        self._closed()

    def empty(self, take: Callable[[socket.socket], object]) -> None:
        self._take = self._let_go = None
        if self._last():
            for sock in self._all():
                take(sock)
                sock.close()
        self.close()

    def disown(self) -> None:
        self._take = self._let_go = None
        for sock in self._all():
            sock.close()

    def _all(self) -> set[socket.socket]:
        # A listener that has taken a slot's sockets has added them to ours.
        return {*self.socks, *itertools.chain(*self._adopted.values())}


class Link(QuietHandler):
    """The worker's end of the link. It counts as work only while a task waits for an
    answer."""

    __slots__ = ("_alone", "_asked", "_cwd", "_leases", "_lent", "_sock", "_stopping", "fd", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fd = sock.fileno()
        self.watched: int | None = None
        self._asked: dict[int, Waiters[Lent | BaseException]] = {}
        """The tasks that wait, by the number of the lease."""
        self._lent: dict[str, tuple[int, Lent | None]] = {}
        """By its key, each lease that there is; None until the answer comes."""
        self._leases = itertools.count(1)
        self._cwd = os.getcwd()
        """The master's directory too."""
        self._stopping = False
        self._alone = False
        """Whether the master has closed its copies of the sockets, or is gone."""
        _loop.register(self.fd, READ, self._on_event)
        _loop.handlers.add(self)
        self.say("hello")
        ready.when_ready(partial(self.say, "ready"))

    def say(self, op: str, **fields: Any) -> None:
        """Tells the master. That it is gone is noticed where the link is read."""
        _link.send(self._sock, op, **fields)

    # ---- listening -------------------------------------------------------------------

    def lend(self, what: str, addr: str, place: Place, mode: int | None, backlog: int) -> Bound:
        """``_binding.bind``, done by the master. Blocks the current task."""
        name = addr
        if place.path is not None:
            path = os.path.abspath(place.path)  # the same text names another file in another directory
            name = f"unix:{path}"
            if os.getcwd() != self._cwd:
                place = place._replace(path=path)
        key = self._key(name, place)
        lease = next(self._leases)
        waiting = self._asked[lease] = Waiters()
        self._lent[key] = lease, None
        if self.watched is None:
            _loop.watch(self)
        self.say("listen", lease=lease, key=key, what=what, addr=addr, place=place._asdict(), mode=mode, backlog=backlog)
        try:
            answer = waiting.wait(f"the master, which listens at {addr}", self._give_back)
        except BaseException:
            self._forget(key, lease)
            raise
        if isinstance(answer, BaseException):
            self._forget(key, lease)
            raise answer
        return answer

    def _key(self, addr: str, place: Place) -> str:
        """Returns what names these sockets to the master, for each worker the same.
        Raises what ``bind`` would if this process has them."""
        inherited = _binding.is_inherited(addr)
        if inherited or place.path is not None or place.port:
            if addr in self._lent:
                if inherited:
                    raise Unusable(f"{addr} is in use in this process")
                raise OSError(os_errno.EADDRINUSE, os.strerror(os_errno.EADDRINUSE))
            return addr
        # A free port: the first, second, … in each worker.
        return next(key for number in itertools.count(1) if (key := f"{addr}#{number}") not in self._lent)

    def _forget(self, key: str, lease: int) -> None:
        self._asked.pop(lease, None)
        if self._lent.get(key, (0, None))[0] == lease:
            del self._lent[key]

    def _give_back(self, answer: Lent | BaseException) -> None:
        if isinstance(answer, Lent):
            answer.give_up()

    def _on_lent(self, key: str, lease: int, fds: list[int], whole: bool) -> None:
        closed = partial(self._on_closed, key, lease)
        if lease in self._asked and whole:
            last = partial(self._are_last, _binding.is_inherited(key))
            lent = Lent([socket.socket(fileno=fd) for fd in fds], last, closed)
            self._lent[key] = lease, lent
            self._answer(lease, lent)
            return
        _link.close(fds)
        self._answer(lease, OSError(os_errno.EMFILE, os.strerror(os_errno.EMFILE)))
        closed()

    def _are_last(self, inherited: bool) -> bool:
        """Whether nobody else has the sockets any more: the master has closed its own,
        or is gone. What it says of that comes before its signal, but the loop may not
        have looked since."""
        if not self._alone:
            self._on_event(READ)
        return self._alone and not inherited

    def _on_closed(self, key: str, lease: int) -> None:
        self._forget(key, lease)
        if not scheduler.begins:
            self.shutdown()  # first: else the master may think that nobody wants these sockets any more
        self.say("closed", key=key, lease=lease)

    def _answer(self, lease: int, answer: Lent | BaseException) -> None:
        if (waiting := self._asked.pop(lease, None)) is not None:
            waiting.wake_one(answer)

    # ---- what the master says --------------------------------------------------------

    def _on_event(self, mask: int) -> None:
        while True:
            try:
                message = _link.receive(self._sock)
            except BlockingIOError:
                return
            if message is None:
                self._gone()
                return
            self._act(message)

    def _act(self, message: _link.Message) -> None:
        op, fields, fds, whole = message
        if op == "lent":
            self._on_lent(fields["key"], fields["lease"], fds, whole)
        elif op == "refused":
            self._answer(fields["lease"], _error(fields))
        elif op == "adopt":
            lent = self._has(fields)
            if not whole:
                _link.close(fds)
                self.say("declined", key=fields["key"], slot=fields["slot"])
            elif lent is None:
                _link.close(fds)  # its listener has closed meanwhile, and the master hears of that
            else:
                lent.adopt(fields["slot"], [socket.socket(fileno=fd) for fd in fds])
        elif op == "release":
            if (lent := self._has(fields)) is not None:
                lent.release(fields["slot"])
        elif op == "notice":
            ending.plan = ending.plan._replace(notice=fields["ms"])
            self.say("noticed")
        elif op == "alone":
            self._alone = True

    def _has(self, fields: dict[str, Any]) -> Lent | None:
        """Returns the sockets of the lease that is meant, if it goes on."""
        lease, lent = self._lent.get(fields["key"], (0, None))
        return lent if lease == fields["lease"] else None

    def _gone(self) -> None:
        """The master is gone: the end begins, as by a signal of it. A program whose
        handler of SIGTERM ends nothing is ended when its time is over."""
        _loop.unregister(self.fd)
        self._alone = True
        for lease in list(self._asked):
            self._answer(lease, Leaving())
        logger.error("the master is gone, so this worker drains and ends")
        plan = ending.plan
        rest = (plan.notice + plan.drain) / 1000 + ending.FINALLY
        _loop.timers.add(monotonic() + rest, lambda _: ending.begin_exit(1), internal=True)
        if not ending.begun():  # else it would be the second signal, which ends at once
            signal.raise_signal(signal.SIGTERM)

    # ---- the process's end -----------------------------------------------------------

    def wakes(self) -> bool:
        """Whether a task waits for an answer."""
        return bool(self._asked)

    def shutdown(self) -> None:
        """The process begins to end: the master starts a successor."""
        if not self._stopping:
            self._stopping = True
            self.say("stopping", signal=ending.began_by())

    def close(self) -> None:
        """Does nothing: the link is there until the end, so that what ends last can
        say so."""

    def abort(self) -> None:
        """Closes the link."""
        if _loop.watches(self.fd):
            _loop.unregister(self.fd)
        _loop.forget(self)
        self._sock.close()

    def disown(self) -> None:
        """In a child of ``os.fork``: closes its copy."""
        self._sock.close()
        _binding.lender = None

    def __repr__(self) -> str:
        return "the link to the master"


def _error(fields: dict[str, Any]) -> BaseException:
    """Returns what ``bind`` would have raised in this process; ``Leaving`` if all
    ends."""
    if "text" in fields:
        return Unusable(fields["text"])
    if "errno" not in fields:
        return Leaving()
    error = OSError(fields["errno"], os.strerror(fields["errno"]))
    for note in fields["notes"]:
        error.add_note(note)
    return error


def join(told: str) -> Link:
    """Makes this process the worker that ``told``, the environment's ``LINK``,
    says. Raises NoMaster."""
    fd, _, number = told.partition(":")
    try:
        sock = socket.socket(fileno=int(fd))
        try:
            if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET or not number.isdigit():
                raise ValueError
            # Who has made the pair. A descriptor of another kind may have this number
            # where a variable was left over.
            pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
        except BaseException:
            sock.detach()
            raise
    except (OSError, ValueError, OverflowError):
        raise NoMaster(f"{LINK} is {shown(told)}, which is no link to a master: unset it") from None
    if pid != os.getppid():
        raise NoMaster("the master is gone already")
    sock.set_inheritable(False)
    sock.setblocking(False)
    env.set("worker", number)
    link = Link(sock)
    _binding.lender = link.lend
    return link
