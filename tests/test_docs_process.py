"""The code of docs/process.md runs, and does what the page says."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from silly import process

from .test_docs import defined


@pytest.fixture
def guide() -> dict[str, Any]:
    return defined("process.md", 4)


def test_a_program_like_a_function(guide: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert guide["sha256"](b"fish") == (hashlib.sha256(b"fish").hexdigest(), None)
    monkeypatch.setenv("PATH", "/nosuch")
    none, err = guide["sha256"](b"fish")
    assert none is None
    assert err.startswith("process.run: sha256sum: No such file or directory")


def test_a_program_to_talk_to(guide: dict[str, Any]) -> None:
    assert guide["cities"]() == [("BERLIN", None), ("ROME", None)]


def test_the_end(guide: dict[str, Any]) -> None:
    assert guide["asked_to_end"]() == ("child.wait: the deadline of 20 ms ran out", -15)


def test_a_terminal(guide: dict[str, Any]) -> None:
    assert guide["answer"]() == (b"fish in 50 132\r\n", (0, None))
    assert process.MOST == 64 * 2**20  # the page says so
