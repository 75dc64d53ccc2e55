"""What gevent's greenlets cost; see tasks_silly.py."""

from __future__ import annotations

import gevent
import gevent.event
import gevent.lock
import gevent.pool
import gevent.socket
import timing
from gevent.queue import Queue, SimpleQueue

MESSAGE = b"x" * 64


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


def join(count: int) -> None:
    for _ in range(count):
        gevent.spawn(int).get()


def cancel(count: int) -> None:
    never = gevent.event.Event()
    for _ in range(count):
        task = gevent.spawn(never.wait)
        gevent.sleep(0)
        task.kill()


def group(count: int) -> None:
    while count > 0:
        together = gevent.pool.Group()
        for _ in range(min(count, 1000)):
            together.spawn(int)
        together.join(raise_error=True)
        count -= 1000


def permit(count: int) -> None:
    one = gevent.lock.Semaphore(1)

    def work() -> None:
        for _ in range(count // 4 + 1):
            with one:
                gevent.sleep(0)
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(work) for _ in range(4)])


def bounded(count: int) -> None:
    jobs: Queue = Queue(10)

    def work() -> None:
        while jobs.get() is not None:
            pass

    workers = [gevent.spawn(work), gevent.spawn(work)]
    for _ in range(count):
        jobs.put(1)
    jobs.put(None)
    jobs.put(None)
    gevent.joinall(workers)


def thread(count: int) -> None:
    pool = gevent.get_hub().threadpool
    for _ in range(count):
        pool.apply(int)


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


def ping_pong(count: int) -> None:
    one, two = gevent.socket.socketpair()

    def echo() -> None:
        while data := two.recv(64):
            two.sendall(data)
        two.close()

    task = gevent.spawn(echo)
    for _ in range(count):
        one.sendall(MESSAGE)
        one.recv(64)
    one.close()
    task.join()


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
})  # fmt: skip
