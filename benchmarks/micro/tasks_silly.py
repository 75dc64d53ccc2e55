"""What our tasks cost; see timing.py."""

from __future__ import annotations

import timing

import silly
from silly import bridge, task, time
from silly.sync import channel, semaphore

MESSAGE = b"x" * 64


def switch(count: int) -> None:
    """Two tasks take turns; each yields ``count`` times."""
    done = channel.new()

    def turn() -> None:
        for _ in range(count):
            time.sleep(0)
        done.push(True)

    task.fork(turn)
    task.fork(turn)
    done.pop()
    done.pop()


def fork(count: int) -> None:
    """Tasks that end at once, a hundred at a time."""
    done = channel.new()
    left = count

    def end() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.push(True)

    for number in range(count):
        task.fork(end)
        if number % 100 == 99:
            time.sleep(0)
    done.pop()


def join(count: int) -> None:
    """Each task is awaited, and has a result."""
    for _ in range(count):
        task.fork(int).join()


def cancel(count: int) -> None:
    """Each task waits, is cancelled, and is awaited."""
    for _ in range(count):
        t = task.fork(task.wait)
        time.sleep(0)
        t.cancel()
        t.join()


def group(count: int) -> None:
    """Groups of 1,000 tasks that end at once; counted are the tasks."""
    while count > 0:
        with task.group() as g:
            for _ in range(min(count, 1000)):
                g.fork(int)
        count -= 1000


def permit(count: int) -> None:
    """Four tasks want the one permit, yield with it and after it: each takes it from another."""
    one = semaphore.new(1)

    def work() -> None:
        for _ in range(count // 4 + 1):
            with one:
                time.sleep(0)
            time.sleep(0)

    for t in [task.fork(work) for _ in range(4)]:
        t.join()


def bounded(count: int) -> None:
    """One task pushes, two pop, and the channel holds ten items."""
    jobs = channel.new(10)

    def work() -> None:
        for _ in jobs:
            pass

    workers = [task.fork(work), task.fork(work)]
    for _ in range(count):
        jobs.push(1)
    jobs.close()
    for t in workers:
        t.join()


def thread(count: int) -> None:
    """A thread calls a function that does nothing."""
    for _ in range(count):
        task.thread(int)


async def nothing() -> None:
    pass


def coroutine(count: int) -> None:
    """A coroutine of asyncio that ends at once, in this thread."""
    for _ in range(count):
        bridge.asyncio.run(nothing())


def timer(count: int) -> None:
    for _ in range(count):
        time.cancel(time.after(10_000, print))


def hand_over(count: int) -> None:
    """Each item goes to a task that waits for it, which sends it back."""
    there, back = channel.new(), channel.new()

    def echo() -> None:
        while True:
            item, _err = there.pop()
            if item is None:
                break
            back.push(item)

    task.fork(echo)
    for _ in range(count):
        there.push(1)
        back.pop()
    there.close()


def ping_pong(count: int) -> None:
    """64 bytes go to a task that waits in ``recv``, and back: two waits, two sends."""
    one, two = bridge.socket.socketpair()

    def echo() -> None:
        while data := two.recv(64):
            two.sendall(data)
        two.close()

    t = task.fork(echo)
    for _ in range(count):
        one.sendall(MESSAGE)
        one.recv(64)
    one.close()
    t.join()


def main() -> None:
    bridge.asyncio.run(nothing())  # the first one imports asyncio
    timing.report({
        "switch to another task and back": switch,
        "fork a task that ends at once": fork,
        "fork a task and join it": join,
        "fork a task, cancel it and join it": cancel,
        "a task in a group of 1,000": group,
        "arm a timer and cancel it": timer,
        "hand an item to a task that waits, and get it back": hand_over,
        "take a semaphore from another task": permit,
        "an item through a bounded channel": bounded,
        "call a function in a thread": thread,
        "64 bytes over a pair of sockets, and back": ping_pong,
        "run a coroutine of asyncio, from code that isn't": coroutine,
    })  # fmt: skip


silly.run(main)
