"""A program that uses ``task.thread``, ``task.post``, ``task.call`` and ``silly.hive``."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from silly import hive, task


def area(width: int, height: int = 1) -> int:
    return width * height


def make(scale: float) -> Callable[[float], float]:
    return lambda value: value * scale


def work() -> int:
    assert_type(task.post(print, "posted"), bool)
    return task.call(area, 2, 3)


def main() -> None:
    size, err = task.thread(area, 2, height=3)
    assert_type(size, int | None)
    assert_type(err, str | None)
    assert_type(task.call(area, 2), int)
    assert_type(task.threads(), int)
    worker = hive.spawn(make, 2.5)
    assert_type(worker, hive.Worker[float])
    assert_type(hive.invoke(worker, 2), float)
    hive.limit(0, 8)


def wrong(worker: hive.Worker[int]) -> None:
    task.thread(area, "2")  # wrong: arg-type, reportArgumentType
    task.post("area")  # wrong: arg-type, reportArgumentType
    hive.spawn("return 1")  # wrong: arg-type, reportArgumentType
    hive.invoke(worker, 1).upper()  # wrong: attr-defined, reportAttributeAccessIssue
    hive.limit("0", 8)  # wrong: arg-type, reportArgumentType
