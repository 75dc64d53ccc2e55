"""The code of docs/process.md runs, and does what the page says."""

from __future__ import annotations

import gzip
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest

from silly import process
from silly.net import http

from .conftest import Logs
from .helpers import serving
from .test_docs import defined


@pytest.fixture
def guide() -> dict[str, Any]:
    return defined("process.md", 5)


def test_a_program_like_a_function(guide: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert guide["sha256"](b"fish") == (hashlib.sha256(b"fish").hexdigest(), None)
    monkeypatch.setenv("PATH", "/nosuch")
    none, err = guide["sha256"](b"fish")
    assert none is None
    assert err.startswith("process.run: sha256sum: No such file or directory")


def test_a_program_to_talk_to(guide: dict[str, Any]) -> None:
    assert guide["cities"]() == [("BERLIN", None), ("ROME", None)]


def test_between_an_upload_and_its_answer(guide: dict[str, Any]) -> None:
    data = random.Random(1).randbytes(2**20)  # more than all pipes hold
    with serving(guide["compress"]) as server:
        response, err = http.post(f"http://{server.addr}/", {}, data, timeout=20_000)
        http.closeidle()
    assert response is not None, err
    assert (response.status, gzip.decompress(response.body)) == (200, data)


def test_a_program_that_fails_cuts_the_answer_off(
    guide: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logs: Logs
) -> None:
    failing = tmp_path / "gzip"
    failing.write_text("#!/bin/sh\necho part\nexit 3\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    logs.expect("gzip: End of file .*, status 3")
    with serving(guide["compress"]) as server:
        response, err = http.post(f"http://{server.addr}/", {}, b"fish", timeout=20_000)
        http.closeidle()
    assert response is None
    assert "incomplete" in str(err)


def test_the_end(guide: dict[str, Any]) -> None:
    assert guide["asked_to_end"]() == ("child.wait: the deadline of 20 ms ran out", -15)


def test_a_terminal(guide: dict[str, Any]) -> None:
    assert guide["answer"]() == (b"fish in 50 132\r\n", (0, None))
    assert process.MOST == 64 * 2**20  # the page says so
