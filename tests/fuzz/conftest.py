"""The targets assert, and shall do so under ``python -O`` too."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.fuzz.frames", "tests.fuzz.handshake", "tests.fuzz.inflate")
