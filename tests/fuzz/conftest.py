"""The corpora and what fuzzing found run on both implementations of the wire code (``tests/implementations.py``)."""

from __future__ import annotations

import pytest

from ..implementations import implementation, load_all, run_on_both

__all__ = ["implementation"]

load_all()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    run_on_both(metafunc, set())
