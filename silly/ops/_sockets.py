"""The listening sockets of a master, which it lends to its workers.

**Slots.** For an address of IPv4 or IPv6 each slot has a socket of its own
(SO_REUSEPORT), so that the kernel spreads the connections evenly. All are made at once
and stay open, even while nobody accepts: to close one resets the connections that wait
there, and changes the way of others whose handshake is under way. A worker's successor
gets the socket of the same slot, and finds what waits.

The first socket is bound without SO_REUSEPORT: so it fails if any other program has
the address, another master too.

**Adoption.** As long as no worker of a slot accepts from its socket (it has died, it
can't start, it has closed its listener), a worker of another slot accepts from it too.

A Unix domain socket, and one that the master has inherited, are one for all.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from .._log import task as logger
from ..net._binding import ANYBODY, Bound, Place, bind, bind_inet, find_place, is_inherited
from ..net._inherited import Unusable
from ._crew import Member


class Loan:
    """The sockets of one address."""

    def __init__(self, bound: Bound, slots: int, backlog: int) -> None:
        self._bound = bound
        self._more: list[list[socket.socket]] = []
        """The sockets of the slots behind the first, unless one is for all."""
        self.adopters: dict[int, tuple[Member, int]] = {}
        """By slot, who accepts from it for want of a worker of its own, and with which
        lease."""
        if slots > 1 and bound.path is None:
            self._make(slots, backlog)

    def _make(self, slots: int, backlog: int) -> None:
        try:
            for sock in self._bound.socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for _ in range(slots - 1):
                self._more.append([])
                for sock in self._bound.socks:
                    self._more[-1].append(_same(sock))
                    self._more[-1][-1].listen(backlog)
        except BaseException:
            self.close()
            raise

    @property
    def shared(self) -> bool:
        """Whether the sockets are the same for all slots."""
        return not self._more

    def fds(self, slot: int) -> list[int]:
        """The descriptors for a slot; the first is 1."""
        return [sock.fileno() for sock in (self._more[slot - 2] if self._more and slot > 1 else self._bound.socks)]

    def close(self) -> None:
        self._bound.close()
        for sock in [sock for socks in self._more for sock in socks]:
            sock.close()

    def __str__(self) -> str:
        return ", ".join(self._bound.addrs)


def _same(sock: socket.socket) -> socket.socket:
    """Returns another socket that is bound to the address of ``sock``."""
    both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return bind_inet(sock.family, sock.getsockname(), reuseport=True, both=both)


class Sockets:
    """All that is lent."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._loans: dict[str, Loan] = {}
        self._closed = False

    def lend(self, member: Member, fields: dict[str, Any]) -> None:
        """Answers the ``listen`` of a worker. Raises KeyError, TypeError or ValueError
        if it is malformed."""
        key, lease = str(fields["key"]), int(fields["lease"])
        try:
            loan = None if self._closed else self._loans.get(key) or self._new(key, fields)
        except OSError as exc:
            member.say("refused", lease=lease, errno=exc.errno, notes=getattr(exc, "__notes__", []))
        except Unusable as exc:
            member.say("refused", lease=lease, text=str(exc))
        else:
            if loan is None:
                member.say("refused", lease=lease)
            elif member.say("lent", loan.fds(member.slot), key=key, lease=lease):
                member.leases[key] = lease

    def _new(self, key: str, fields: dict[str, Any]) -> Loan:
        what, addr, mode, backlog = (fields[name] for name in ("what", "addr", "mode", "backlog"))
        inherited = is_inherited(addr)
        place = find_place(what, addr, ANYBODY) if inherited else _place(fields["place"])
        loan = Loan(bind(what, addr, place, mode, backlog), 1 if inherited else self._slots, backlog)
        self._loans[key] = loan
        return loan

    def settle(self, members: Iterable[Member], coming: bool) -> None:
        """Finds somebody for each socket from which nobody accepts, and closes what
        nobody wants any more. ``coming``: workers start, and may listen yet."""
        members = list(members)
        for key, loan in list(self._loans.items()):
            holders = [each for each in members if key in each.leases]
            if not holders and not coming:
                logger.debug(f"no worker listens on {loan} any more: closed")
                loan.close()
                del self._loans[key]
            elif not loan.shared:
                self._adopt(key, loan, holders)

    def _adopt(self, key: str, loan: Loan, holders: list[Member]) -> None:
        own = {each.slot for each in holders}
        for slot in range(1, self._slots + 1):
            adopter, lease = loan.adopters.get(slot, (None, 0))
            if adopter is not None and adopter.leases.get(key) != lease:
                del loan.adopters[slot]  # it has closed that listener, and with it these sockets
                adopter = None
            if slot in own:
                if adopter is not None:
                    del loan.adopters[slot]
                    adopter.say("release", key=key, lease=lease, slot=slot)
            elif adopter is None:
                adopters = [each for each, _ in loan.adopters.values()]
                able = [each for each in holders if each.adopts]
                for each in sorted(able, key=adopters.count):
                    lease = each.leases[key]
                    if each.say("adopt", loan.fds(slot), key=key, lease=lease, slot=slot):
                        loan.adopters[slot] = each, lease
                        logger.debug(f"{each} accepts for slot {slot} on {loan}")
                        break

    def declined(self, member: Member, key: str, slot: int) -> None:
        """A worker could not adopt the sockets of a slot."""
        loan = self._loans.get(key)
        if loan is not None and loan.adopters.get(slot, (None, 0))[0] is member:
            del loan.adopters[slot]

    def close(self) -> None:
        """Closes all; the workers have copies of what they accept from."""
        self._closed = True
        for loan in self._loans.values():
            loan.close()
        self._loans.clear()


def _place(given: dict[str, Any]) -> Place:
    found = given["found"]
    ids = given["ids"]
    return Place(
        int(given["port"]),
        given["path"],
        None if ids is None else (int(ids[0]), int(ids[1])),
        None if found is None else [(int(family), tuple(sockaddr)) for family, sockaddr in found],
    )
