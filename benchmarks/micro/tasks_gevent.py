"""What gevent's greenlets cost; see tasks_silly.py."""

from __future__ import annotations

import gevent
import gevent.event
import timing
from gevent.queue import SimpleQueue


def switch(count: int) -> None:
    def turn() -> None:
        for _ in range(count):
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(turn), gevent.spawn(turn)])


def fork(count: int) -> None:
    done = gevent.event.Event()
    left = count

    def end() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    for number in range(count):
        gevent.spawn(end)
        if number % 100 == 99:
            gevent.sleep(0)
    done.wait()


def timer(count: int) -> None:
    for _ in range(count):
        gevent.Timeout.start_new(10).close()


def hand_over(count: int) -> None:
    there: SimpleQueue = SimpleQueue()
    back: SimpleQueue = SimpleQueue()

    def echo() -> None:
        while there.get() is not None:
            back.put(1)

    task = gevent.spawn(echo)
    for _ in range(count):
        there.put(1)
        back.get()
    there.put(None)
    task.join()


timing.report({
    "switch to another task and back": switch,
    "fork a task that ends at once": fork,
    "arm a timer and cancel it": timer,
    "hand an item to a task that waits, and get it back": hand_over,
})  # fmt: skip
