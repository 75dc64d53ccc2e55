"""The tests of the wire code run on both of its implementations (``tests/implementations.py``)."""

from __future__ import annotations

import pytest

from ..implementations import implementation, load_all, run_on_both

__all__ = ["implementation"]

ONCE = {
    "test_accelerated",
    "test_accelerated_answer",
    "test_accelerated_chunks",
    "test_accelerated_heads",
    "test_conditional",
    "test_content",
    "test_date",
    "test_deflate",
    "test_differential_deflate.test_offers_are_understood_alike",
    "test_differential_deflate.test_offers_that_wsproto_understands_otherwise",
    "test_differential_deflate.test_wsproto_answers",
    "test_differential_deflate.test_wsproto_offers",
    "test_forwarded",
    "test_fuzz_wire.test_handshake_checks",
    "test_fuzz_wire.test_heads_cut_off",
    "test_fuzz_wire.test_responses",
    "test_fuzz_wire.test_parsed_values_have_no_control_characters",
    "test_handshake",
    "test_limits",
    "test_negotiate",
    "test_networks",
    "test_path",
    "test_proxy_protocol",
    "test_url",
}
"""Those that compare the two themselves, and those without frames, messages, masks, chunks or whole requests: they would fail
if there were any."""

load_all()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    run_on_both(metafunc, ONCE)
