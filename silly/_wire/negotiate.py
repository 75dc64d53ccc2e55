"""How Accept-Encoding chooses a content coding (RFC 9110, section 12.5.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .header import TOKEN, split_list

_WEIGHT = re.compile(r"[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def content_coding(accepted: str | None, available: Sequence[str]) -> str | None:
    """The best of the ``available`` codings, which are in the server's order of
    preference; None for no coding.

    ``accepted`` is the field's value, or None without one: then the client may know no
    coding at all. An element that can't be understood is skipped. A client that refuses
    even the representation without a coding still gets that one.
    """
    if not accepted:
        return None
    weights = _weights(accepted)
    others = weights.get("*", 0)
    best = None
    # "No coding" is acceptable unless it is refused, but preferred only where it is
    # named.
    most = weights.get("identity", others)
    for coding in available:
        weight = weights.get(coding, others)
        if weight > most or (weight == most > 0 and best is None):
            best, most = coding, weight
    return best


def _weights(accepted: str) -> dict[str, int]:
    """The weight of each coding that is named, in thousandths."""
    weights: dict[str, int] = {}
    for element in split_list(accepted):
        name, semicolon, parameter = element.partition(";")
        coding = name.rstrip(" \t").lower()
        weight = _WEIGHT.fullmatch(parameter) if semicolon else None
        if TOKEN.fullmatch(coding) and (weight or not semicolon):
            coding = "gzip" if coding == "x-gzip" else coding  # section 8.4.1.3
            weights[coding] = round(float(weight.group(1)) * 1000) if weight else 1000
    return weights
