"""The targets assert, and shall do so under ``python -O`` too."""

from __future__ import annotations

import pytest

from . import TARGETS

pytest.register_assert_rewrite("tests.fuzz.source", "tests.fuzz.messages", *[f"tests.fuzz.{name}" for name in TARGETS])
