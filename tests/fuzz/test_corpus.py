"""The kept corpus and every finding, replayed; and that the fuzzer runs."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from . import CORPUS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    target = import_module(f"tests.fuzz.{name}")
    kept = sorted((CORPUS / name).iterdir())
    assert len(kept) > 10
    for path in kept:
        try:
            target.run(path.read_bytes())
        except BaseException as exc:
            exc.add_note(f"on {path}")
            raise
    for data in target.SEEDS:
        target.run(data)


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.glob("*/*")]
    assert len(sizes) < 100 * len(TARGETS)
    assert sum(sizes) < 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_any_beginning_of_an_input_is_one(name: str) -> None:
    """A target takes whatever there is: the fuzzer cuts and mixes."""
    target = import_module(f"tests.fuzz.{name}")
    for data in target.SEEDS[:8]:
        for size in range(len(data)):
            target.run(data[:size])


def test_the_fuzzer_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "handshake", "--seconds", "0.2", "--seed", "1"],
        cwd=CORPUS.parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "executions" in ran.stdout
