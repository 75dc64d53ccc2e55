"""What waits in ``silly.sync`` when the process ends and nothing waits any more."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from silly import errno, task
from silly._core import scheduler
from silly._core.waiting import Leaving
from silly.sync import channel, event, pool, semaphore

SCRIPT = """
import silly
from silly import errno, task, time
from silly.sync import channel, event, pool, semaphore

full, few, conns = channel.new(1), semaphore.new(1), pool.new(lambda: ([], None), max_open=1)
full.push("item")
few.acquire()
conns.get()

def wait(call):
    try:
        time.sleep(60_000)
    finally:
        print(call()[1] == errno.CLOSED, flush=True)

def iterate():
    try:
        time.sleep(60_000)
    finally:
        for item in channel.new(1):
            pass
        print("the loop has ended, but the channel was not closed")

def block(entered):
    try:
        time.sleep(60_000)
    finally:
        with entered:
            print("entered without a permit or an item")

for call in (lambda: full.push("more"), channel.new(1).pop, channel.new().pop, few.acquire, event.new().wait, conns.get):
    task.fork(wait, call)
task.fork(iterate)
task.fork(block, few)
task.fork(block, conns.take())
time.sleep(0)
time.after(1, silly.exit)
silly.run()
"""


def test_all_are_told() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n" * 6, "", 0)


def test_nothing_begins_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    full, few, items = channel.new(1), semaphore.new(1), pool.new(lambda: ([], None), max_open=1)
    full.push("item")
    few.acquire()
    item, _ = items.get()
    monkeypatch.setattr(scheduler, "exiting", True)
    for call in (lambda: full.push("more"), channel.new(1).pop, channel.new().pop, few.acquire, event.new().wait, items.get):
        answer: Any = call()
        assert answer[1] == errno.CLOSED
        assert not answer[0]
    with pytest.raises(Leaving), few:
        pass
    with pytest.raises(Leaving), items.take():
        pass
    with pytest.raises(Leaving):
        list(channel.new())
    monkeypatch.undo()
    assert (len(full), len(few._waiters), items.waiting) == (1, 0, 0)
    few.release()
    items.put(item)
    assert few.acquire(0)
    assert items.get(0) == (item, None)


def test_items_are_closed_at_the_end() -> None:
    """Also those that the end of their task gives back."""
    script = """
import silly
from silly import task, time
from silly.sync import pool

conns = pool.new(lambda: ([], None), close=lambda item: print("closed", item, flush=True))

def use(number):
    with conns.take() as item:
        item.append(number)
        time.sleep(60_000)

for number in (1, 2):
    task.fork(use, number)
time.after(1, silly.exit)
silly.run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("closed [1]\nclosed [2]\n", "", 0)


def test_a_child_of_fork_closes_what_it_has() -> None:
    script = """
import os
from silly import time
from silly.sync import channel, pool, semaphore

chan, bound, few, conns = channel.new(), channel.new(1), semaphore.new(1), pool.new(lambda: ([], None), close=print)
item, err = conns.get()
few.acquire()
if os.fork() == 0:
    chan.close()
    bound.close()
    few.release()
    conns.put(item)
    conns.close()
    for call in (lambda: chan.push(1), lambda: bound.push(1), chan.pop, bound.pop, few.acquire, conns.get):
        try:
            call()
        except RuntimeError as exc:
            assert "os.fork" in str(exc), exc
        else:
            raise AssertionError(call)
    print("the child is done", flush=True)
    os._exit(0)
print("status", os.wait()[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.returncode) == ("the child is done\nstatus 0\n", 0), done.stderr


def test_a_task_that_waits_is_named_by_its_call() -> None:
    few, items = semaphore.new(1), pool.new(lambda: ([], None), max_open=1)
    few.acquire()
    items.get()
    waiting = [task.fork(call) for call in (few.acquire, few.__enter__, items.get, items.take().__enter__, event.new().wait)]
    scheduler.pause()
    assert [t.waiting() for t in waiting] == ["semaphore.acquire"] * 2 + ["pool.get"] * 2 + ["event.wait"]
    for t in waiting:
        t.cancel()
    assert [t.join() for t in waiting] == [(None, "cancelled")] * 5
