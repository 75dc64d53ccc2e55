"""As ``blow_scenarios``: what ``bridge.asyncio`` waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from silly.bridge import _asyncio_loop
from silly.bridge.asyncio import iterate, run

from .blow_scenarios import check, scenario
from .blows import Blows, Cancelled, Job, again
from .net.support import until


@scenario
def coroutines(blows: Blows) -> None:
    """Each coroutine comes to its end, or is cancelled there. Items that a blow ends are begun anew."""
    begun: list[int] = []
    ended: list[int] = []

    async def nap(number: int) -> int:
        begun.append(number)
        try:
            await asyncio.sleep(0.001)
        finally:
            ended.append(number)
        return number

    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield await nap(number)

    def work() -> None:
        for number in range(3):
            check(again(lambda number=number: run(nap(number))) == (number, None))

    def go_through() -> None:
        while True:
            try:
                check([*iterate(numbers())] == [0, 1, 2])
                return
            except Cancelled:
                pass

    for job in [Job(work), Job(work), Job(go_through)]:
        job.result()
    host = _asyncio_loop.present()
    check(host is not None)
    until(lambda: not host.coroutines())
    check(len(begun) >= 9 and sorted(begun) == sorted(ended), (begun, ended))
