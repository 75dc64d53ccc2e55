"""RFC 6455, sections 5.5.2 and 5.5.3: pings and pongs."""

from __future__ import annotations

from typing import Any

import pytest

from ..helpers import FIN, PING, PONG
from .support import ROLES, Frame, Vector, binary, cases, check, last, linked, more, ping, pong, text

BIG = bytes(range(125))
NOT_TEXT = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
TEN = [f"payload-{number}".encode() for number in range(10)]


def pongs(payloads: list[bytes]) -> list[tuple[str, bytes]]:
    return [("pong", payload) for payload in payloads]


VECTORS = [
    Vector("5.5.2-ping-empty", [ping()], pongs([b""])),
    Vector("5.5.2-ping-text", [ping(b"Hello, world!")], pongs([b"Hello, world!"])),
    Vector("5.5.2-ping-that-is-no-text", [ping(NOT_TEXT)], pongs([NOT_TEXT])),
    Vector("5.5.2-ping-1-byte", [ping(b"\0")], pongs([b"\0"])),
    Vector("5.5.2-ping-124", [ping(BIG[:124])], pongs([BIG[:124]])),
    Vector("5.5.2-ping-125", [ping(BIG)], pongs([BIG])),
    Vector("5.5-ping-126", [ping(BIG + b"x")], [], 1002),
    Vector("5.5-ping-127", [ping(BIG + b"xy")], [], 1002),
    Vector("5.5-pong-126", [pong(BIG + b"x")], [], 1002),
    Vector("5.5-ping-126-after-a-good-one", [ping(b"good"), ping(BIG + b"x"), ping(b"late")], pongs([b"good"]), 1002),
    Vector("5.5.2-10-pings", [ping(payload) for payload in TEN], pongs(TEN)),
    Vector("5.5.2-10-pings-of-125", [ping(BIG)] * 10, pongs([BIG] * 10)),
    Vector("5.5.2-10-empty-pings", [ping()] * 10, pongs([b""] * 10)),
    Vector(
        "5.5.2-pings-and-messages",
        [text("1"), ping(b"1"), binary(b"2"), ping(b"2"), text("3"), ping(b"3")],
        [("text", b"1"), ("pong", b"1"), ("binary", b"2"), ("pong", b"2"), ("text", b"3"), ("pong", b"3")],
    ),
    Vector("5.5.3-pong-empty", [pong()]),
    Vector("5.5.3-pong-payload", [pong(b"unsolicited")]),
    Vector("5.5.3-pong-125", [pong(BIG)]),
    Vector("5.5.3-pong-that-is-no-text", [pong(NOT_TEXT)]),
    Vector("5.5.3-pong-then-ping", [pong(b"unsolicited"), ping(b"ping")], pongs([b"ping"])),
    Vector("5.5.3-pong-ping-pong", [pong(b"1"), ping(b"2"), pong(b"2"), ping(b"3")], pongs([b"2", b"3"])),
    Vector("5.5.3-10-pongs", [pong(payload) for payload in TEN] + [text("alive")], [("text", b"alive")]),
    Vector("5.5.2-ping-before-a-message", [ping(b"p"), text("message")], [("pong", b"p"), ("text", b"message")]),
    Vector("5.5.2-ping-behind-a-message", [text("message"), ping(b"p")], [("text", b"message"), ("pong", b"p")]),
    Vector(
        "5.4-ping-between-fragments",
        [text("frag", final=False), ping(b"between"), last("ment")],
        [("pong", b"between"), ("text", b"fragment")],
    ),
    Vector(
        "5.4-pong-between-fragments",
        [text("frag", final=False), pong(b"between"), last("ment")],
        [("text", b"fragment")],
    ),
    Vector(
        "5.4-10-pings-between-fragments",
        [binary(b"a", final=False), *[ping(payload) for payload in TEN], last(b"b")],
        [*pongs(TEN), ("binary", b"ab")],
    ),
    Vector(
        "5.4-ping-in-a-split-character",
        [text(b"\xe2", final=False), ping(b"\xe2"), more(b"\x82"), pong(b"\xff"), last(b"\xac")],
        [("pong", b"\xe2"), ("text", "€".encode())],
    ),
    Vector("5.5-fragmented-ping", [(PING, b"frag"), last(b"ment")], [], 1002),
    Vector("5.5-fragmented-empty-ping", [(PING, b"")], [], 1002),
    Vector("5.5-fragmented-pong", [(PONG, b"frag"), last(b"ment")], [], 1002),
    Vector("5.5-fragmented-ping-in-a-message", [text("frag", final=False), (PING, b"p"), last(b"ment")], [], 1002),
    Vector("5.5-fragmented-ping-after-a-ping", [ping(b"good"), (PING, b"bad"), ping(b"late")], pongs([b"good"]), 1002),
    Vector("5.4-continued-ping", [ping(b"good"), last(b"more")], pongs([b"good"]), 1002),
]


@cases(VECTORS, modes=("whole", "frames", "octets"))
def test_pings_and_pongs(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="5.5.2-answered-at-once"),
        pytest.param([text("frag", final=False)], id="5.5.2-answered-inside-a-message"),
        pytest.param([text(b"\xe2\x82", final=False)], id="5.5.2-answered-inside-a-character"),
        pytest.param([binary(b"", final=False), more(b"")], id="5.5.2-answered-inside-an-empty-message"),
    ],
)
def test_answered_before_the_message_ends(before: list[Frame], role: str) -> None:
    """The pong comes while the message is under way, and the whole message is echoed then."""
    with linked(role) as link:
        link.peer.play(before, "frames")
        for number in range(10):
            link.peer.put(FIN | PING, b"%d" % number)
            assert link.peer.event() == ("pong", b"%d" % number)
        if before:
            link.peer.put(*last(b"\xac" if before[0][1].startswith(b"\xe2") else b"end"))
            kind, payload = link.peer.event()
            assert payload == b"".join(part for _, part in before) + payload[-1 if payload.endswith(b"\xac") else -3 :]
            assert kind in ("text", "binary")
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
def test_shown_to_the_application(role: str) -> None:
    """5.5.2-shown: the application sees them, in order with the messages."""
    with linked(role) as link:
        link.peer.play([ping(b"1"), pong(b"2"), text("3"), ping(b"4")], "whole")
        assert {link.peer.event() for _ in range(3)} == {("pong", b"1"), ("text", b"3"), ("pong", b"4")}
        link.closes_well()
        assert link.heard == [
            (b"1", "ping"),
            (b"2", "pong"),
            ("3", "text"),
            (b"4", "ping"),
            (b"\x03\xe8", "close"),
        ]
