"""What asyncio's tasks cost: tasks_asyncio.py [uvloop]; see tasks_silly.py."""

from __future__ import annotations

import asyncio
import sys
import threading
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


async def nothing() -> None:
    pass


async def join(count: int) -> None:
    for _ in range(count):
        await asyncio.create_task(nothing())


async def cancel(count: int) -> None:
    never = asyncio.Event()
    for _ in range(count):
        task = asyncio.create_task(never.wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])


async def group(count: int) -> None:
    while count > 0:
        async with asyncio.TaskGroup() as together:
            for _ in range(min(count, 1000)):
                together.create_task(nothing())
        count -= 1000


async def permit(count: int) -> None:
    one = asyncio.Semaphore(1)

    async def work() -> None:
        for _ in range(count // 4 + 1):
            async with one:
                await asyncio.sleep(0)
            await asyncio.sleep(0)

    await asyncio.gather(*[work() for _ in range(4)])


async def bounded(count: int) -> None:
    jobs: asyncio.Queue[int | None] = asyncio.Queue(10)

    async def work() -> None:
        while await jobs.get() is not None:
            pass

    workers = asyncio.gather(work(), work())
    for _ in range(count):
        await jobs.put(1)
    await jobs.put(None)
    await jobs.put(None)
    await workers


async def thread(count: int) -> None:
    for _ in range(count):
        await asyncio.to_thread(int)


def coroutine(count: int) -> None:
    """From a thread, on a loop that runs in another: what code that blocks has without a bridge."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    for _ in range(count):
        asyncio.run_coroutine_threadsafe(nothing(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


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
    "fork a task and join it": run(join),
    "fork a task, cancel it and join it": run(cancel),
    "a task in a group of 1,000": run(group),
    "arm a timer and cancel it": run(timer),
    "hand an item to a task that waits, and get it back": run(hand_over),
    "take a semaphore from another task": run(permit),
    "an item through a bounded channel": run(bounded),
    "call a function in a thread": run(thread),
    "run a coroutine of asyncio, from code that isn't": coroutine,
})  # fmt: skip
loop.close()
