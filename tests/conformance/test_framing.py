"""RFC 6455, section 5.2: lengths, segments, masks, reserved bits, opcodes; and large messages."""

from __future__ import annotations

from typing import Any

import pytest

from ..helpers import BINARY, CONTINUATION, FIN, TEXT, turn
from .support import (
    CLIENT,
    ROLES,
    Frame,
    Vector,
    answered,
    binary,
    cases,
    check,
    close,
    last,
    linked,
    ping,
    pong,
    text,
)

MIB = 2**20
SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 65537)


def sample(kind: str, size: int) -> bytes:
    """A message of ``size`` bytes; text has characters of 2 to 4 octets in it, binary has every octet."""
    unit = "wörd€𐍈 ".encode() if kind == "text" else bytes(range(256))
    whole = unit * (size // len(unit))
    return whole + (b"*" * (size - len(whole)) if kind == "text" else unit[: size - len(whole)])


# ---- lengths and segments -------------------------------------------------------------------------------------------


def segments(size: int) -> list[int]:
    """How a message of ``size`` bytes is cut; 0: not at all."""
    return [0, 1, 2] + [64] * (size > 50) if size < 200 else [0, 64, 997]


@pytest.mark.parametrize(
    ("kind", "size", "segment", "role"),
    [
        pytest.param(kind, size, segment, role, id=f"5.2-length-{size}-{kind}-{role}-segments-{segment or 'whole'}")
        for kind in ("text", "binary")
        for size in SIZES
        for segment in segments(size)
        for role in ROLES
    ],
)
def test_lengths(kind: str, size: int, segment: int, role: str) -> None:
    payload = sample(kind, size)
    with linked(role) as link:
        wire = link.peer.frame(FIN | (TEXT if kind == "text" else BINARY), payload)
        link.peer.cut(wire, segment or len(wire))
        answered(link, [(kind, payload)], None)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["text", "binary"])
def test_many_messages_in_one_segment(kind: str, role: str) -> None:
    """5.2-many: each length in one stream of segments that begin nowhere near a frame."""
    payloads = [sample(kind, size) for size in (0, 1, 125, 126, 127, 128, 300) * 20]
    with linked(role) as link:
        wire = b"".join(link.peer.frame(FIN | (TEXT if kind == "text" else BINARY), payload) for payload in payloads)
        link.peer.cut(wire, 1009)
        answered(link, [(kind, payload) for payload in payloads], None)


LARGE = {"message": 16 * MIB, "fragments": 65536, "close_timeout": 2000}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("size", [MIB, 4 * MIB, 16 * MIB], ids=lambda size: f"5.2-large-{size // MIB}MiB")
def test_large_messages_in_one_frame(size: int, kind: str, role: str) -> None:
    payload = sample(kind, size)
    with linked(role, LARGE) as link:
        wire = link.peer.frame(FIN | (TEXT if kind == "text" else BINARY), payload)
        view = memoryview(wire)
        for at in range(0, len(wire), 65536):
            link.peer.send(bytes(view[at : at + 65536]))
            turn()
        assert link.peer.event() == (kind, payload)
        link.closes_well()


@pytest.mark.parametrize(
    ("size", "fragment", "kind", "role"),
    [
        pytest.param(size * MIB, fragment, kind, role, id=f"5.4-large-{size}MiB-fragments-{fragment}-{kind}-{role}")
        for size, fragment, kind, role in (
            (4, 64, "binary", "server"),
            (4, 64, "text", "client"),
            (4, 256, "binary", "client"),
            (4, 1024, "text", "server"),
            (4, 4096, "text", "client"),
            (4, 16384, "binary", "server"),
            (4, 65536, "binary", "client"),
            (4, 262144, "text", "server"),
            (4, 1048576, "text", "client"),
            (4, 4194304, "binary", "server"),
            (16, 256, "text", "server"),
            (16, 256, "binary", "client"),
            (16, 1024, "binary", "server"),
            (16, 65536, "text", "client"),
            (16, 4194304, "binary", "server"),
        )
    ],
)
def test_large_messages_in_fragments(size: int, fragment: int, kind: str, role: str) -> None:
    unit = sample(kind, fragment)
    count = size // fragment
    with linked(role, LARGE) as link:
        peer = link.peer
        middle = peer.frame(CONTINUATION, unit)  # one mask for all of them: the wire is made in a moment
        wire = (
            peer.frame(TEXT if kind == "text" else BINARY, unit)
            + middle * (count - 2)
            + peer.frame(FIN | CONTINUATION, unit)
            if count > 1
            else peer.frame(FIN | (TEXT if kind == "text" else BINARY), unit)
        )
        peer.send(wire)
        assert peer.event() == (kind, unit * count)
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096, 16384, 65536], ids=lambda size: f"5.2-round-trips-{size}")
def test_round_trips(size: int, role: str) -> None:
    """A hundred echoes, one after the other."""
    payload = sample("binary", size)
    with linked(role) as link:
        for kind, opcode in (("text", TEXT), ("binary", BINARY)):
            payload = sample(kind, size)
            for _ in range(50):
                link.peer.put(FIN | opcode, payload)
                assert link.peer.event() == (kind, payload)
        link.closes_well()


# ---- lengths and masks that are wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["whole", "octets"])
@pytest.mark.parametrize("first", [FIN | TEXT, FIN | BINARY, TEXT], ids=["text", "binary", "fragment"])
@pytest.mark.parametrize(
    ("length", "code"),
    [
        pytest.param((0).to_bytes(2, "big"), 1002, id="5.2-not-minimal-16-bit-0"),
        pytest.param((125).to_bytes(2, "big"), 1002, id="5.2-not-minimal-16-bit-125"),
        pytest.param((0).to_bytes(8, "big"), 1002, id="5.2-not-minimal-64-bit-0"),
        pytest.param((125).to_bytes(8, "big"), 1002, id="5.2-not-minimal-64-bit-125"),
        pytest.param((126).to_bytes(8, "big"), 1002, id="5.2-not-minimal-64-bit-126"),
        pytest.param((65535).to_bytes(8, "big"), 1002, id="5.2-not-minimal-64-bit-65535"),
        pytest.param((2**63).to_bytes(8, "big"), 1002, id="5.2-most-significant-bit"),
        pytest.param((2**64 - 1).to_bytes(8, "big"), 1002, id="5.2-all-bits"),
        pytest.param((2**20 + 1).to_bytes(8, "big"), 1009, id="7.4.1-one-more-than-the-limit"),
        pytest.param((2**32 + 3).to_bytes(8, "big"), 1009, id="7.4.1-4GiB"),
        pytest.param((2**63 - 1).to_bytes(8, "big"), 1009, id="7.4.1-most"),
    ],
)
def test_bad_lengths(length: bytes, code: int, first: int, mode: str, role: str, logs: Any) -> None:
    """Told from the header alone: nothing behind it is sent."""
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        wire = link.peer.frame(first, b"", length)
        head = wire[: 2 + len(length)]
        if mode == "whole":
            link.peer.send(link.peer.frame(*text("good")) + head)
        else:
            link.peer.send(link.peer.frame(*text("good")))
            link.peer.dribble(head)
        answered(link, [("text", b"good")], code)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["whole", "octets"])
@pytest.mark.parametrize("good", [False, True], ids=["alone", "behind-a-good-one"])
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(text("x"), id="5.1-mask-text"),
        pytest.param(binary(b""), id="5.1-mask-empty-binary"),
        pytest.param(text("x", final=False), id="5.1-mask-fragment"),
        pytest.param(ping(b"x"), id="5.1-mask-ping"),
        pytest.param(pong(), id="5.1-mask-pong"),
        pytest.param(close(1000), id="5.1-mask-close"),
        pytest.param(binary(b"x" * 200), id="5.1-mask-16-bit-length"),
    ],
)
def test_wrong_mask(frame: Frame, good: bool, mode: str, role: str, logs: Any) -> None:
    """A client that doesn't mask, a server that does: 1002."""
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        peer = link.peer
        if good:
            peer.put(*text("good"))
            assert peer.event() == ("text", b"good")
        peer.masks = not peer.masks
        wire = peer.frame(*frame)
        peer.masks = not peer.masks
        if mode == "whole":
            peer.send(wire)
        else:
            peer.dribble(wire)
        link.fails(1002)
        assert link.messages == [("text", b"good")] * good


# ---- reserved bits --------------------------------------------------------------------------------------------------

ON = {
    "text": (text("reserved"), None),
    "binary": (binary(b"reserved"), None),
    "continuation": (last("reserved"), text("begun", final=False)),
    "ping": (ping(b"reserved"), None),
    "pong": (pong(b"reserved"), None),
    "close": (close(1000), None),
}


def reserved() -> list[Vector]:
    vectors = []
    for bits in range(1, 8):
        for name, ((first, payload), before) in ON.items():
            bad = [before] if before else []
            bad.append((first | bits << 4, payload))
            tail = [text("behind")]
            where: dict[str, tuple[list[Frame], list[tuple[str, bytes]]]] = {
                "alone": ([], []),
                "after-a-message": ([text("good")], [("text", b"good")]),
                "among-pings": ([ping(b"1"), ping(b"2")], [("pong", b"1"), ("pong", b"2")]),
            }
            for place, (good, due) in where.items():
                vectors.append(Vector(f"5.2-rsv-{bits}-on-{name}-{place}", [*good, *bad, ping(b"3"), *tail], due, 1002))
    return vectors


@cases(reserved())
def test_reserved_bits(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


# ---- opcodes --------------------------------------------------------------------------------------------------------


def opcodes() -> list[Vector]:
    vectors = []
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        name = f"5.2-opcode-{opcode}"
        vectors += [
            Vector(f"{name}-empty", [(FIN | opcode, b"")], [], 1002),
            Vector(f"{name}-payload", [(FIN | opcode, b"payload"), ping(b"late")], [], 1002),
            Vector(f"{name}-not-final", [(opcode, b"payload")], [], 1002),
            Vector(f"{name}-long", [(FIN | opcode, b"p" * 200)], [], 1002),
            Vector(f"{name}-after-a-message", [text("good"), (FIN | opcode, b""), ping()], [("text", b"good")], 1002),
            Vector(
                f"{name}-after-a-message-and-a-ping",
                [text("good"), ping(b"1"), (FIN | opcode, b"payload"), text("late")],
                [("text", b"good"), ("pong", b"1")],
                1002,
            ),
            Vector(f"{name}-inside-a-message", [text("begun", final=False), (FIN | opcode, b"x"), last()], [], 1002),
        ]
    return vectors


@cases(opcodes())
def test_unknown_opcodes(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs)


# ---- told at the first octet ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("octets", "before"),
    [
        *[pytest.param(bytes((FIN | bits << 4 | TEXT,)), [], id=f"5.2-first-octet-rsv-{bits}") for bits in range(1, 8)],
        *[pytest.param(bytes((FIN | op,)), [], id=f"5.2-first-octet-opcode-{op}") for op in (3, 4, 5, 6, 7, *range(11, 16))],
        pytest.param(b"\x00", [], id="5.4-first-octet-orphan"),
        pytest.param(b"\x80", [], id="5.4-first-octet-final-orphan"),
        pytest.param(b"\x81", [text("begun", final=False)], id="5.4-first-octet-message-inside-a-message"),
        pytest.param(b"\x02", [text("", final=False)], id="5.4-first-octet-fragment-inside-a-message"),
        pytest.param(b"\x90", [text("begun", final=False)], id="5.2-first-octet-rsv-3-inside-a-message"),
        pytest.param(b"\x8b", [text("begun", final=False)], id="5.2-first-octet-opcode-11-inside-a-message"),
        pytest.param(b"\x09", [text("begun", final=False)], id="5.5-first-octet-fragmented-ping-inside-a-message"),
        *[pytest.param(bytes((op,)), [], id=f"5.5-first-octet-fragmented-control-{op}") for op in (8, 9, 10)],
        *[pytest.param(bytes((FIN | op, 126)), [], id=f"5.5-second-octet-long-control-{op}") for op in (8, 9, 10)],
        *[pytest.param(bytes((FIN | op, 127)), [], id=f"5.5-second-octet-longer-control-{op}") for op in (8, 9, 10)],
        pytest.param(b"\x88\x01", [], id="5.5.1-second-octet-close-of-1-byte"),
        pytest.param(b"\x82\x7f\x80", [], id="5.2-third-octet-most-significant-bit"),
        pytest.param(b"\x81\x7e\x00\x7d", [], id="5.2-fourth-octet-not-minimal"),
    ],
)
def test_refused_at_once(octets: bytes, before: list[Frame], role: str, logs: Any) -> None:
    """The peer stops at the octet that proves the fault; no octet before that is answered."""
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        peer = link.peer
        peer.play(before, "frames")
        if role != CLIENT and len(octets) > 1:
            octets = bytes((octets[0], octets[1] | 0x80)) + octets[2:]
        for octet in octets:
            peer.quiet()
            peer.send(bytes((octet,)))
        link.fails(1002)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("first", [FIN | TEXT, BINARY, FIN | 8, FIN | 9], ids=lambda first: f"5.1-second-octet-{first:02x}")
def test_wrong_mask_is_refused_at_once(first: int, role: str, logs: Any) -> None:
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        link.peer.send(bytes((first,)))
        link.peer.quiet()
        link.peer.send(bytes((100 if link.peer.masks else 0x80 | 100,)))
        link.fails(1002)
