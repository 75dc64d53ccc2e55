"""The scenario of a worker that asks its master for sockets; see ``blow_scenarios``."""

from __future__ import annotations

from typing import Any

from silly._core import scheduler
from silly._core.loop import READ
from silly.net import _binding, tcp
from silly.ops import _link, worker
from silly.ops._sockets import Sockets

from .blow_scenarios import check, must, scenario
from .blows import Blows, Job, again


class Fake:
    """A worker as its master has it."""

    slot = 1
    adopts = True

    def __init__(self, link: Any) -> None:
        self.link = link
        self.leases: dict[str, int] = {}

    def say(self, op: str, fds: Any = None, **fields: Any) -> bool:
        return _link.send(self.link, op, fds or (), **fields)


@scenario
def leases(blows: Blows) -> None:
    """Who is struck while it waits for the master's answer gets no socket, and the lease ends; who tries again gets one."""
    ours, theirs = _link.new_pair()
    theirs.setblocking(False)
    member, sockets = Fake(ours), Sockets(2)

    def hear(mask: int) -> None:
        message = _link.receive(ours)
        assert message is not None
        if message.op == "listen":
            _binding.lender = None  # the master binds itself
            sockets.lend(member, message.fields)  # type: ignore[arg-type]
            _binding.lender = link.lend
        elif message.op == "closed" and member.leases.get(message.fields["key"]) == message.fields["lease"]:
            del member.leases[message.fields["key"]]

    def listen() -> str:
        with must(again(tcp.listen, "127.0.0.1:0", lambda conn: conn.close())) as listener:
            addr: str = listener.addr
            must(again(tcp.connect, addr)).close()
        return addr

    link = worker.Link(theirs)
    _binding.lender = link.lend
    scheduler.loop.register(ours.fileno(), READ, hear)
    try:
        jobs = [Job(listen) for _ in range(3)]
        check(len({job.result() for job in jobs}) == 3)
        while member.leases:
            scheduler.pause()
        check(not link._lent and not link._asked)
    finally:
        _binding.lender = None
        scheduler.loop.unregister(ours.fileno())
        link.abort()
        ours.close()
        sockets.close()
