"""RFC 6455, sections 5.6 and 8.1: text is UTF-8 (RFC 3629), and text that isn't fails at the octet that proves it."""

from __future__ import annotations

from typing import Any

import pytest

from ..helpers import FIN, TEXT
from .support import ROLES, Frame, Vector, binary, cases, check, last, linked, more, ping, text

# ---- an oracle of its own -------------------------------------------------------------------------------------------


def proof(data: bytes) -> int | None:
    """How many octets of ``data`` prove that it is no UTF-8, by the table of RFC 3629, section 4; None when none does."""
    at = 0
    while at < len(data):
        lead = data[at]
        if lead < 0x80:
            at += 1
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            tails = 1
        elif 0xE0 <= lead <= 0xEF:
            tails = 2
            low, high = (0xA0 if lead == 0xE0 else 0x80), (0x9F if lead == 0xED else 0xBF)
        elif 0xF0 <= lead <= 0xF4:
            tails = 3
            low, high = (0x90 if lead == 0xF0 else 0x80), (0x8F if lead == 0xF4 else 0xBF)
        else:
            return at + 1
        for tail in range(1, tails + 1):
            if at + tail >= len(data):
                return None
            if not low <= data[at + tail] <= high:
                return at + tail + 1
            low, high = 0x80, 0xBF
        at += tails + 1
    return None


def octets(payload: bytes) -> list[Frame]:
    """A message of fragments of one octet each."""
    if len(payload) < 2:
        return [text(payload)]
    parts = [payload[at : at + 1] for at in range(len(payload))]
    return [text(parts[0], final=False), *[more(part) for part in parts[1:-1]], last(parts[-1])]


# ---- text -----------------------------------------------------------------------------------------------------------

VALID = {
    "empty": b"",
    "ascii": b"Hello, world!",
    "U+0000": b"\x00",
    "U+007F": b"\x7f",
    "U+0080": b"\xc2\x80",
    "U+07FF": b"\xdf\xbf",
    "U+0800": b"\xe0\xa0\x80",
    "U+1000": b"\xe1\x80\x80",
    "U+CFFF": b"\xec\xbf\xbf",
    "U+D000": b"\xed\x80\x80",
    "U+D7FF": b"\xed\x9f\xbf",
    "U+E000": b"\xee\x80\x80",
    "U+FEFF": b"\xef\xbb\xbf",
    "U+FEFF-first": b"\xef\xbb\xbfmark",
    "U+FFFD": b"\xef\xbf\xbd",
    "U+FFFE": b"\xef\xbf\xbe",
    "U+FFFF": b"\xef\xbf\xbf",
    "U+FDD0": b"\xef\xb7\x90",
    "U+10000": b"\xf0\x90\x80\x80",
    "U+1FFFE": b"\xf0\x9f\xbf\xbe",
    "U+3FFFF": b"\xf0\xbf\xbf\xbf",
    "U+40000": b"\xf1\x80\x80\x80",
    "U+FFFFF": b"\xf3\xbf\xbf\xbf",
    "U+100000": b"\xf4\x80\x80\x80",
    "U+10FFFE": b"\xf4\x8f\xbf\xbe",
    "U+10FFFF": b"\xf4\x8f\xbf\xbf",
    "greek": "κόσμε".encode(),
    "all-lengths": "aé€𐍈".encode() * 3,
    "combining": "e\u0301 \U0001f469\u200d\U0001f4bb".encode(),
    "NUL-inside": b"a\x00b",
    "line-ends": b"\r\n\x0b\x0c\xc2\x85\xe2\x80\xa8",
    "non-characters": b"".join(chr(plane << 16 | low).encode() for plane in range(17) for low in (0xFFFE, 0xFFFF)),
}

HELLO = "κόσμε-".encode()
SURROGATES = {
    "D800": b"\xed\xa0\x80",
    "DB7F": b"\xed\xad\xbf",
    "DB80": b"\xed\xae\x80",
    "DBFF": b"\xed\xaf\xbf",
    "DC00": b"\xed\xb0\x80",
    "DF80": b"\xed\xbe\x80",
    "DFFF": b"\xed\xbf\xbf",
}
BAD = {
    **{f"lonely-continuation-{octet:02X}": bytes((octet,)) for octet in (0x80, 0x9F, 0xA0, 0xBF)},
    **{f"continuations-{count}": b"\x80\xbf" * (count // 2) + b"\x80" * (count % 2) for count in (2, 3, 4, 5, 6, 7)},
    "all-continuations": bytes(range(0x80, 0xC0)),
    **{f"impossible-{octet:02X}": bytes((octet,)) for octet in (0xC0, 0xC1, *range(0xF5, 0x100))},
    "impossible-FE-FE-FF-FF": b"\xfe\xfe\xff\xff",
    **{f"lead-{octet:02X}-and-space": bytes((octet, 0x20)) for octet in (0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF3, 0xF4)},
    "all-2-octet-leads": b" ".join(bytes((octet,)) for octet in range(0xC2, 0xE0)) + b" ",
    "lead-twice": b"\xc3\xc3\xa9",
    "second-of-3-is-a-lead": b"\xe2\xe2\x82\xac",
    "third-of-3-is-ascii": b"\xe2\x82A",
    "third-of-3-is-a-lead": b"\xe2\x82\xe2\x82\xac",
    "third-of-4-is-ascii": b"\xf0\x90A\x80",
    "fourth-of-4-is-ascii": b"\xf0\x90\x8dA",
    "fourth-of-4-is-a-lead": b"\xf0\x90\x8d\xc3\xa9",
    "5-octets": b"\xf8\x88\x80\x80\x80",
    "6-octets": b"\xfc\x84\x80\x80\x80\x80",
    "overlong-2-of-2F": b"\xc0\xaf",
    "overlong-2-of-7F": b"\xc1\xbf",
    "overlong-2-of-NUL": b"\xc0\x80",
    "overlong-3-of-2F": b"\xe0\x80\xaf",
    "overlong-3-of-7FF": b"\xe0\x9f\xbf",
    "overlong-3-of-NUL": b"\xe0\x80\x80",
    "overlong-4-of-2F": b"\xf0\x80\x80\xaf",
    "overlong-4-of-FFFF": b"\xf0\x8f\xbf\xbf",
    "overlong-4-of-NUL": b"\xf0\x80\x80\x80",
    "overlong-5-of-2F": b"\xf8\x80\x80\x80\xaf",
    "overlong-6-of-2F": b"\xfc\x80\x80\x80\x80\xaf",
    "U+110000": b"\xf4\x90\x80\x80",
    "U+13FFFF": b"\xf4\xbf\xbf\xbf",
    "U+140000": b"\xf5\x80\x80\x80",
    "U+1FFFFF": b"\xf7\xbf\xbf\xbf",
    **{f"surrogate-{name}": data for name, data in SURROGATES.items()},
    "pair-D800-DC00": b"\xed\xa0\x80\xed\xb0\x80",
    "pair-D800-DFFF": b"\xed\xa0\x80\xed\xbf\xbf",
    "pair-DB7F-DC00": b"\xed\xad\xbf\xed\xb0\x80",
    "pair-DBFF-DFFF": b"\xed\xaf\xbf\xed\xbf\xbf",
    "pair-DC00-D800": b"\xed\xb0\x80\xed\xa0\x80",
    "utf-16": "wide".encode("utf-16"),
    "latin-1": "Größe".encode("latin-1"),
}
CUT = {
    f"cut-{name}-to-{size}": b"ok" + VALID[name][:size]
    for name in ("U+0080", "U+07FF", "U+0800", "U+D7FF", "U+FFFF", "U+10000", "U+40000", "U+10FFFF")
    for size in range(1, len(VALID[name]))
}


def test_oracle() -> None:
    """The oracle says of each row what its table does."""
    assert [name for name, data in VALID.items() if proof(data) is not None] == []
    assert [name for name, data in BAD.items() if proof(data) is None] == []
    assert [name for name, data in CUT.items() if proof(data) is not None] == []


@cases([Vector(f"8.1-valid-{name}", [text(data)], [("text", data)]) for name, data in VALID.items()])
def test_valid(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@cases(
    [
        Vector(f"8.1-valid-in-octets-{name}", octets(HELLO + data), [("text", HELLO + data)])
        for name, data in VALID.items()
    ],
    modes=("whole", "frames", "octets"),
)
def test_valid_in_fragments(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@cases([Vector(f"5.6-binary-{name}", [binary(data)], [("binary", data)]) for name, data in BAD.items()], modes=("whole",))
def test_binary_is_not_text(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@cases([Vector(f"8.1-invalid-{name}", [text(data), text("late")], [], 1007) for name, data in {**BAD, **CUT}.items()])
def test_invalid(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@cases(
    [
        Vector(f"8.1-invalid-inside-{name}", [text("good"), text(HELLO + data + b"-edited")], [("text", b"good")], 1007)
        for name, data in {**BAD, **CUT}.items()
    ],
    modes=("whole",),
)
def test_invalid_inside(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@cases(
    [
        Vector(f"8.1-invalid-in-octets-{name}", [*octets(HELLO + data), text("late")], [], 1007)
        for name, data in {**BAD, **CUT}.items()
    ],
    modes=("whole", "octets"),
)
def test_invalid_in_fragments(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@cases(
    [
        Vector(
            f"8.1-cut-at-the-end-{name}-{how}",
            [text(data, final=False), *([ping(b"p")] if how == "ping" else []), last(b"")],
            [("pong", b"p")] if how == "ping" else [],
            1007,
        )
        for name, data in CUT.items()
        for how in ("empty-end", "ping")
    ]
)
def test_cut_at_the_end(vector: Vector, role: str, mode: str, logs: Any) -> None:
    """A character that the message's end cuts, told at the FIN."""
    check(vector, role, mode, logs)


@cases(
    [
        Vector(f"8.1-next-message-{name}", [text(data, final=False), last(b""), text(VALID["U+10FFFF"])], [], 1007)
        for name, data in CUT.items()
    ]
    + [
        Vector(
            "8.1-state-is-of-one-message",
            [text(b"\xc3", final=False), last(b"\xa9"), text(b"\xa9")],
            [("text", "é".encode())],
            1007,
        )
    ],
    modes=("whole",),
)
def test_a_character_does_not_span_messages(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


# ---- fail fast ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("how", ["octets", "two-segments", "fragments"])
@pytest.mark.parametrize("name", BAD, ids=lambda name: f"8.1-fail-fast-{name}")
def test_fail_fast(name: str, how: str, role: str, logs: Any) -> None:
    """The peer stops at the octet that proves it, the message and the frame unfinished; before it nothing is answered."""
    logs.allow(r"^INFO websocket: ")
    data = HELLO + BAD[name]
    proved = proof(data)
    assert proved is not None
    with linked(role) as link:
        peer = link.peer
        if how == "fragments":
            wire = peer.frame(TEXT, data[: proved - 1]) + peer.begin(0, 1000, data[proved - 1 : proved])
        else:
            wire = peer.begin(FIN | TEXT, 1000, data[:proved])
        if how == "octets":
            peer.dribble(wire[:-1])
        else:
            peer.send(wire[:-1])
        peer.quiet()
        peer.send(wire[-1:])
        link.fails(1007)
        assert link.messages == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", [10, 100, 1000, 70_000, 1_000_000], ids=lambda size: f"8.1-fail-fast-in-a-frame-of-{size}")
def test_fail_fast_behind_much_text(size: int, role: str, logs: Any) -> None:
    """The proof comes in the middle of a long frame, and at its very end."""
    logs.allow(r"^INFO websocket: ")
    good = ("x" + "€" * (size // 3)).encode()
    for declared in (len(good) + 1, len(good) + 1000):
        if declared > 2**20:
            continue
        with linked(role) as link:
            wire = link.peer.begin(FIN | TEXT, declared, good + b"\xff")
            for at in range(0, len(wire) - 1, 65536):
                link.peer.send(wire[at : min(at + 65536, len(wire) - 1)])
            link.peer.quiet()
            link.peer.send(wire[-1:])
            link.fails(1007)


@pytest.mark.parametrize("role", ROLES)
def test_unfinished_character_is_waited_for(role: str) -> None:
    """8.1-patience: a character that may still end well is not failed."""
    with linked(role) as link:
        for data in (VALID["U+10FFFF"], VALID["U+D7FF"], VALID["U+0800"], VALID["U+10000"]):
            for octet in link.peer.frame(*text(data)):
                link.peer.quiet()
                link.peer.send(bytes((octet,)))
            assert link.peer.event() == ("text", data)
        link.closes_well()
