"""As ``blow_scenarios``: what ``silly.bridge`` waits for."""

from __future__ import annotations

import socket

import pytest

from silly import errno
from silly._core import scheduler
from silly.bridge import descriptor

from .blow_scenarios import check, scenario
from .blows import WITHIN, Blows, Job, again
from .helpers import turn


@scenario
def descriptors(blows: Blows) -> None:
    """One task reads and one writes, at the same descriptor."""
    one, two = socket.socketpair()
    got = bytearray()

    def read() -> None:
        while len(got) < 6:
            check(again(descriptor.wait, one, descriptor.READ, WITHIN) == (descriptor.READ, None))
            got.extend(one.recv(1))

    def write() -> None:
        for number in range(3):
            check(again(descriptor.wait, one, descriptor.WRITE, WITHIN) == (descriptor.WRITE, None))
            one.send(b"%d" % number)

    def end() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scheduler, "exiting", True)
            check(again(descriptor.wait, one, descriptor.WRITE) == (None, errno.CLOSED))

    with one, two:
        jobs = [Job(read), Job(write)]
        for number in range(6):
            turn(2)  # so that it waits
            two.send(b"%d" % number)
        for job in jobs:
            job.result()
        Job(end).result()
        check(got == b"012345" and two.recv(10) == b"012", got)
