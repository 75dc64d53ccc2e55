"""The scenarios of ``silly.net.udp``; see ``blow_scenarios``."""

from __future__ import annotations

import pytest

from silly import errno
from silly._core import scheduler
from silly.net import udp

from .blow_scenarios import check, must, scenario
from .blows import WITHIN, Blows, Job, again
from .helpers import turn


@scenario
def datagrams(blows: Blows) -> None:
    """Two tasks echo, one asks: on the loopback nothing gets lost, so each answer comes, in its order."""
    with must(udp.bind("127.0.0.1:0")) as server, must(udp.connect(server.addr)) as client:

        def echo() -> None:
            while (got := again(server.recvfrom))[0] is not None:
                check(server.sendto(*got))

        def ask() -> None:
            for number in range(6):
                check(client.sendto(str(number)))
                check(again(client.recvfrom, WITHIN) == (str(number).encode(), server.addr))

        echoes = [Job(echo) for _ in range(2)]
        Job(ask).result()
        server.close()
        for each in echoes:
            each.result()


@scenario
def queued_datagrams(blows: Blows) -> None:
    """A task that takes what is there lets others run now and then; at the end of the process nothing waits."""
    with must(udp.bind("127.0.0.1:0")) as server, must(udp.connect(server.addr)) as client:
        for number in range(100):
            check(client.sendto(bytes([number])))
        turn(4)

        def take() -> None:
            for number in range(100):
                check(again(server.recvfrom, WITHIN) == (bytes([number]), client.addr))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(scheduler, "exiting", True)
                check(again(server.recvfrom) == (None, errno.CLOSED))
                check(again(udp.bind, "127.0.0.1:0")[1] == errno.CLOSED)
                check(again(udp.connect, server.addr)[1] == errno.CLOSED)

        Job(take).result()
