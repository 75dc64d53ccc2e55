"""Mutexes, wait groups, single flights."""

from typing import assert_type

import silly
from silly import task, time
from silly.sync import mutex, singleflight, waitgroup

stock: dict[str, int] = {}
locks = mutex.new()


def sell(fruit: str, count: int = 1) -> bool:
    with locks.lock(fruit) as lock:
        time.sleep(1)
        stock[fruit] -= count
        lock.unlock()
    return True


def load(user: int) -> dict[str, str]:
    return {"name": str(user)}


def main() -> None:
    wg = waitgroup.new()
    assert_type(wg.fork(sell, "apples", count=2), task.Task[bool])
    wg.fork(sell, 3)  # wrong: arg-type, reportArgumentType
    wg.fork("sell")  # wrong: arg-type, reportArgumentType, reportCallIssue
    ok, err = wg.wait(1000)
    assert_type(ok, bool)
    if err is not None:
        print(err.upper(), wg.count, wg.errors)
    sf = singleflight.new(load)
    assert_type(sf.call(7), dict[str, str])
    sf.call("ann")  # wrong: arg-type, reportArgumentType
    locks.unlock("apples")  # wrong: attr-defined, reportAttributeAccessIssue


silly.run(main)
