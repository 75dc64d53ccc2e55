"""What asyncio's tasks cost: tasks_asyncio.py [uvloop]; see tasks_silly.py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import timing


async def switch(count: int) -> None:
    async def turn() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    await asyncio.gather(turn(), turn())


async def fork(count: int) -> None:
    done = asyncio.Event()
    left = count

    async def end() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    kept = []
    for number in range(count):
        kept.append(asyncio.create_task(end()))
        if number % 100 == 99:
            await asyncio.sleep(0)
            kept.clear()
    await done.wait()


async def timer(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(10, print).cancel()


async def hand_over(count: int) -> None:
    there: asyncio.Queue[int | None] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def echo() -> None:
        while await there.get() is not None:
            back.put_nowait(1)

    task = asyncio.create_task(echo())
    for _ in range(count):
        there.put_nowait(1)
        await back.get()
    there.put_nowait(None)
    await task


if sys.argv[1:] == ["uvloop"]:
    import uvloop

    loop = uvloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()


def run(what: Callable[[int], Coroutine[Any, Any, None]]) -> Callable[[int], None]:
    return lambda count: loop.run_until_complete(what(count))


timing.report({
    "switch to another task and back": run(switch),
    "fork a task that ends at once": run(fork),
    "arm a timer and cancel it": run(timer),
    "hand an item to a task that waits, and get it back": run(hand_over),
})  # fmt: skip
loop.close()
