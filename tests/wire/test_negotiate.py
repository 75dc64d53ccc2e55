"""The choice of a content coding by Accept-Encoding (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silly._wire.negotiate import content_coding

from .strategies import STEADY

BOTH = ("br", "gzip")


@pytest.mark.parametrize(
    ("accepted", "available", "expected"),
    [
        # What browsers and tools send.
        ("gzip, deflate, br, zstd", BOTH, "br"),
        ("gzip, deflate, br", ("gzip",), "gzip"),
        ("gzip, deflate", BOTH, "gzip"),
        ("gzip,br", BOTH, "br"),
        ("deflate", BOTH, None),
        ("identity", BOTH, None),
        (None, BOTH, None),
        ("", BOTH, None),
        (" ", BOTH, None),
        (",,", BOTH, None),
        ("gzip", (), None),
        # Names in any case; x-gzip is gzip (section 8.4.1.3).
        ("GZip", BOTH, "gzip"),
        ("BR", BOTH, "br"),
        ("x-gzip", BOTH, "gzip"),
        ("X-GZIP;q=0", BOTH, None),
        # Weights.
        ("br;q=0.5, gzip", BOTH, "gzip"),
        ("br;q=0.5, gzip;q=0.5", BOTH, "br"),
        ("br;q=0.501, gzip;q=0.502", BOTH, "gzip"),
        ("br;q=0, gzip;q=0.001", BOTH, "gzip"),
        ("br;q=0, gzip;q=0.000", BOTH, None),
        ("gzip;q=1.000, br;q=0.999", BOTH, "gzip"),
        ("gzip;q=1., br;q=0.", BOTH, "gzip"),
        ("gzip ; q=1, br ;\tq=0.9", BOTH, "gzip"),
        ("gzip;Q=1, br;q=0.9", BOTH, "gzip"),
        # No coding.
        ("gzip;q=0.5, identity;q=0.8", BOTH, None),
        ("gzip;q=0.8, identity;q=0.5", BOTH, "gzip"),
        ("gzip;q=0.5, identity;q=0.5", BOTH, "gzip"),
        ("gzip, identity;q=0", BOTH, "gzip"),
        ("identity;q=0", BOTH, None),
        ("gzip;q=0.001", BOTH, "gzip"),
        # Any other.
        ("*", BOTH, "br"),
        ("*;q=0.5", BOTH, "br"),
        ("*;q=0", BOTH, None),
        ("gzip, *;q=0", BOTH, "gzip"),
        ("br;q=0, *", BOTH, "gzip"),
        ("br;q=0.5, *", ("br",), None),
        ("identity, *;q=0", BOTH, None),
        ("identity;q=0.5, *;q=0.7", BOTH, "br"),
        ("identity;q=0.5, *;q=0", BOTH, None),
        # What can't be understood says nothing about a coding.
        ("gzip;q=2", BOTH, None),
        ("gzip;q=-1", BOTH, None),
        ("gzip;q=", BOTH, None),
        ("gzip;q", BOTH, None),
        ("gzip;", BOTH, None),
        ("gzip;q=0.1234", BOTH, None),
        ("gzip;q=1.001", BOTH, None),
        ("gzip;q=1e0", BOTH, None),
        ("gzip;q=0,5", BOTH, None),
        ("gzip;q=\u0661", BOTH, None),
        ("gzip;level=1", BOTH, None),
        ("gzip;q=1;q=0", BOTH, None),
        ("gzip deflate", BOTH, None),
        ('"gzip"', BOTH, None),
        ("gzip;q=2, br", BOTH, "br"),
        ("bro, gzipped", BOTH, None),
        # The last of several counts.
        ("gzip, gzip;q=0", BOTH, None),
    ],
)
def test_content_coding(accepted: str | None, available: tuple[str, ...], expected: str | None) -> None:
    assert content_coding(accepted, available) == expected


ELEMENTS = st.builds(
    lambda coding, weight: coding if weight is None else f"{coding};q={weight}",
    st.sampled_from(["br", "gzip", "x-gzip", "identity", "*", "deflate", "", ";", "gzip br"]),
    st.sampled_from([None, "0", "0.0", "0.3", "0.7", "1", "1.0", "x"]),
)


@STEADY
@given(st.lists(ELEMENTS, max_size=6), st.sampled_from([(), ("br",), ("gzip",), BOTH]))
def test_a_refused_coding_is_never_chosen(elements: list[str], available: tuple[str, ...]) -> None:
    chosen = content_coding(", ".join(elements), available)
    assert chosen is None or chosen in available
    if chosen is not None:
        names = {chosen, "x-gzip"} if chosen == "gzip" else {chosen}
        named = [element for element in elements if element.partition(";")[0] in (*names, "*")]
        assert any(not element.endswith((";q=0", ";q=0.0", ";q=x")) for element in named)


def test_a_long_field_takes_linear_time() -> None:
    for field in ("gzip;q=0." + "0" * 60_000, "gzip," * 12_000, " " * 60_000, ";" * 60_000, "gzip;q" + " " * 60_000 + "=1"):
        assert content_coding(field, BOTH) in (None, "gzip")
