"""The code of docs/sync.md about mutexes, wait groups and single flights runs, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from silly import task, time
from silly.sync import waitgroup

from .conftest import Logs

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "sync.md").read_text()


def defined(section: str) -> dict[str, Any]:
    """The names that the code of a section defines."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_mutex() -> None:
    page = defined("Mutex")
    tasks = [task.fork(page["withdraw"], "ann", amount) for amount in (60, 60, 40)]
    assert [t.join()[0] for t in tasks] == [True, False, True]
    assert page["balance"] == {"ann": 0}
    task.fork(page["withdraw"], "ann", 1)
    time.sleep(0)
    with pytest.raises(TimeoutError) as caught, time.deadline(0):
        page["accounts"].lock("ann")
    (text,) = re.findall(r"`(mutex\.lock\(.*?)`", TEXT)
    assert str(caught.value) == text.replace("100 ms", "0 ms")
    page["accounts"].lock("ann").unlock()


def test_wait_group(logs: Logs) -> None:
    logs.expect("ValueError: page 3 is torn")
    page = defined("Wait group")
    ok, err, errors = page["fetch_all"]()
    assert (ok, err, [str(exc) for exc in errors]) == (True, None, ["page 3 is torn"])
    assert sorted(page["pages"]) == [1, 2, 4, 5]
    assert f"the first {waitgroup.ERRORS:,}" in TEXT


def test_single_flight() -> None:
    page = defined("Single flight")
    asked: list[str] = []
    load = page["loading"]._func
    page["loading"]._func = lambda user: (asked.append(user), load(user))[1]
    tasks = [task.fork(page["profile"], "ann") for _ in range(5)]
    results = [t.join()[0] for t in tasks]
    assert asked == ["ann"]
    assert results == [{"name": "ann"}] * 5
    assert page["profile"]("ann") is results[0]
