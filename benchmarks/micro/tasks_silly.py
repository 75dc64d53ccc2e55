"""What our tasks cost; see timing.py."""

from __future__ import annotations

import timing

import silly
from silly import task, time
from silly.sync import channel


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


def main() -> None:
    timing.report({
        "switch to another task and back": switch,
        "fork a task that ends at once": fork,
        "arm a timer and cancel it": timer,
        "hand an item to a task that waits, and get it back": hand_over,
    })  # fmt: skip


silly.run(main)
