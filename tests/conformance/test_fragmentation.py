"""RFC 6455, section 5.4: fragments, and what may come between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ..helpers import CLOSE
from .support import Frame, Vector, binary, cases, check, close, last, linked, more, ping, pong, text

WORDS = "Wörter aus € und 𐍈, in Stücken".encode()


def pieces(payload: bytes, count: int, first: Any = text) -> list[Frame]:
    """``payload`` in ``count`` fragments of about the same size."""
    cuts = [len(payload) * number // count for number in range(count + 1)]
    parts = [payload[a:b] for a, b in pairwise(cuts)]
    if count == 1:
        return [first(parts[0])]
    return [first(parts[0], final=False), *[more(part) for part in parts[1:-1]], last(parts[-1])]


def in_gap(frames: list[Frame], gap: int, *control: Frame) -> list[Frame]:
    """With control frames before fragment ``gap``."""
    return [*frames[:gap], *control, *frames[gap:]]


def vectors() -> list[Vector]:
    found = []
    for count in (2, 3, 4, 5, 8, 16, len(WORDS)):
        found.append(Vector(f"5.4-text-in-{count}", pieces(WORDS, count), [("text", WORDS)]))
        found.append(Vector(f"5.4-binary-in-{count}", pieces(WORDS, count, binary), [("binary", WORDS)]))
    four = pieces(WORDS, 4)
    for gap in range(5):
        found.append(Vector(f"5.4-ping-in-gap-{gap}", in_gap(four, gap, ping(b"gap")), [("pong", b"gap"), ("text", WORDS)]))
        found.append(Vector(f"5.4-pong-in-gap-{gap}", in_gap(four, gap, pong(b"gap")), [("text", WORDS)]))
        found.append(
            Vector(
                f"5.4-controls-in-gap-{gap}",
                in_gap(four, gap, ping(b"1"), pong(b"2"), ping(b"3")),
                [("pong", b"1"), ("pong", b"3"), ("text", WORDS)],
            )
        )
    all_gaps: list[Frame] = []
    for number, frame in enumerate(pieces(WORDS, 8, binary)):
        all_gaps += [frame, ping(b"%d" % number)]
    found.append(Vector("5.4-pings-in-all-gaps", all_gaps, [("pong", b"%d" % n) for n in range(8)] + [("binary", WORDS)]))

    for kind, first in (("text", text), ("binary", binary)):
        found += [
            Vector(f"5.4-{kind}-all-empty", [first(b"", final=False), more(b""), last(b"")], [(kind, b"")]),
            Vector(f"5.4-{kind}-empty-then-end", [first(b"", final=False), last(b"")], [(kind, b"")]),
            Vector(f"5.4-{kind}-empty-first", [first(b"", final=False), last(b"end")], [(kind, b"end")]),
            Vector(f"5.4-{kind}-empty-middle", [first(b"a", final=False), more(b""), last(b"b")], [(kind, b"ab")]),
            Vector(f"5.4-{kind}-empty-end", [first(b"a", final=False), more(b"b"), last(b"")], [(kind, b"ab")]),
            Vector(f"5.4-{kind}-many-empty", [first(b"a", final=False), *[more(b"")] * 50, last(b"b")], [(kind, b"ab")]),
            Vector(f"5.4-{kind}-empty-and-whole", [first(b""), first(b"x")], [(kind, b""), (kind, b"x")]),
        ]

    two = [("text", b"one"), ("binary", b"two"), ("text", b"three")]
    found += [
        Vector(
            "5.4-messages-in-a-row",
            [text("o", final=False), last("ne"), binary(b"tw", final=False), last(b"o"), text("three")],
            two,
        ),
        Vector(
            "5.4-whole-and-fragmented",
            [text("one"), binary(b"t", final=False), more(b"w"), ping(b"p"), last(b"o"), text("thr", final=False), last("ee")],
            [two[0], ("pong", b"p"), *two[1:]],
        ),
        # Nothing to continue.
        Vector("5.4-orphan-final", [last("orphan"), text("late")], [], 1002),
        Vector("5.4-orphan-not-final", [more("orphan"), text("late")], [], 1002),
        Vector("5.4-orphan-empty-final", [last(b"")], [], 1002),
        Vector("5.4-orphan-empty-not-final", [more(b"")], [], 1002),
        Vector("5.4-orphan-after-a-message", [text("good"), last("orphan")], [("text", b"good")], 1002),
        Vector("5.4-orphan-not-final-after-a-message", [text("good"), more("orphan")], [("text", b"good")], 1002),
        Vector(
            "5.4-orphan-after-a-fragmented-message",
            [text("go", final=False), last("od"), last("orphan")],
            [("text", b"good")],
            1002,
        ),
        Vector(
            "5.4-orphan-after-an-empty-fragmented-message",
            [text("", final=False), last(""), last("")],
            [("text", b"")],
            1002,
        ),
        Vector("5.4-orphan-after-a-ping", [ping(b"p"), last("orphan")], [("pong", b"p")], 1002),
        Vector("5.4-orphans-repeated", [more("o"), text("good"), more("o"), text("good")], [], 1002),
    ]
    # A message inside a message.
    for outer, begin in (("text", text), ("binary", binary)):
        for inner, second in (("text", text), ("binary", binary)):
            for final in (True, False):
                for start in (b"", b"begun"):
                    found.append(
                        Vector(
                            f"5.4-{inner}-{'whole' if final else 'fragment'}-inside-{outer}-{'begun' if start else 'empty'}",
                            [begin(start, final=False), second(b"inside", final=final), last(b"end")],
                            [],
                            1002,
                        )
                    )
    found += [
        Vector(
            "5.4-message-inside-after-controls",
            [text("a", final=False), ping(b"p"), more("b"), pong(b"q"), text("c")],
            [("pong", b"p")],
            1002,
        ),
        Vector("5.5-fragmented-close", [(CLOSE, b"\x03\xe8")], [], 1002),
        Vector("5.5-fragmented-close-in-a-message", [text("a", final=False), (CLOSE, b"\x03\xe8"), last("b")], [], 1002),
    ]
    return found


@cases(vectors(), modes=("whole", "frames", "octets"))
def test_fragments(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


def closes() -> list[Vector]:
    """A close in each gap of a message, which stays unfinished; behind it what is never read."""
    found = []
    four = pieces(WORDS, 4)
    for gap in range(1, 4):
        for code in (1000, 1001, 4999):
            late = [close(code, "enough"), *four[gap:], ping(b"late"), text("late")]
            found.append(Vector(f"7.1.5-close-{code}-in-gap-{gap}", [*four[:gap], *late], [("close", code.to_bytes(2, "big"))]))
        found.append(Vector(f"7.1.5-empty-close-in-gap-{gap}", [*four[:gap], close(None)], [("close", b"")]))
    return found


@cases(closes(), modes=("whole", "frames", "octets"))
def test_close_in_a_gap(vector: Vector, role: str, mode: str) -> None:
    """The close is answered with its own code, strictly, and nothing of the message is echoed."""
    with linked(role) as link:
        link.peer.play(vector.frames, mode)
        assert link.peer.event() == vector.due[0]
        link.tcp_ends()
        link.until_ended()
        assert link.messages == []
        assert link.heard[-1][1] == "close"
        payload = vector.due[0][1]
        assert link.sock.closecode == (int.from_bytes(payload, "big") if payload else 1005)
