"""The same vectors for messages that are read and written piece by piece: the wire must not tell the difference."""

from __future__ import annotations

from typing import Any

import pytest

from ..helpers import BINARY, CONTINUATION, FIN, TEXT
from . import test_compression as compression
from . import test_control as control
from . import test_fragmentation as fragmentation
from . import test_utf8 as utf8
from .support import ROLES, RSV1, Link, Vector, cases, check, linked, text

PLAIN = [
    *control.VECTORS,
    *fragmentation.vectors(),
    *[Vector(f"8.1-valid-{name}", [text(data)], [("text", data)]) for name, data in utf8.VALID.items()],
    *[Vector(f"8.1-in-octets-{name}", utf8.octets(data), [("text", data)]) for name, data in utf8.VALID.items()],
    *[Vector(f"8.1-invalid-{name}", [text(data), text("late")], [], 1007) for name, data in {**utf8.BAD, **utf8.CUT}.items()],
]
IN_OCTETS = [Vector(f"8.1-octets-{name}", utf8.octets(data), [], 1007) for name, data in {**utf8.BAD, **utf8.CUT}.items()]


@cases(PLAIN)
def test_read_whole(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs, app=Link.gather)


@cases(IN_OCTETS, modes=("whole",))
def test_read_whole_in_octets(vector: Vector, role: str, mode: str, logs: Any) -> None:
    check(vector, role, mode, logs, app=Link.gather)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["whole", "octets"])
@pytest.mark.parametrize("name", compression.PRINTED)
def test_read_whole_compressed(name: str, mode: str, role: str) -> None:
    frames, due = compression.PRINTED[name]
    with compression.squeezed(role, {}, compression.WIDE, app=Link.gather) as (link, _):
        link.peer.play(frames, mode)
        got = [link.peer.event() for _ in due]
        assert [event for event in got if event[0] != "pong"] == [event for event in due if event[0] != "pong"]
        link.closes_well()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mode", ["whole", "octets"])
@pytest.mark.parametrize("name", compression.FAULTS)
def test_read_whole_faults(name: str, mode: str, role: str, logs: Any) -> None:
    frames, due, code = compression.FAULTS[name]
    logs.allow(r"^INFO websocket: ")
    with compression.squeezed(role, {}, compression.WIDE, app=Link.gather) as (link, _):
        link.peer.play([*frames, text("late")], mode)
        for event in due:
            assert link.peer.event() == event
        link.fails(code)


SIZES = (0, 1, 125, 126, 65535, 65536, 65537, 131072, 500_000)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("squeeze", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("kind", compression.KINDS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"5.4-relayed-{size}")
def test_relayed(size: int, kind: str, squeeze: bool, role: str) -> None:
    """Sent on while it arrives: what comes back is the same message, in one frame or many."""
    data = (compression.payload(kind, 131072, 3) * (size // 131072 + 1))[:size]
    first = TEXT if compression.is_text(kind) else BINARY
    due = ("text" if first == TEXT else "binary", data)

    def play(link: Any, codec: Any) -> None:
        for parts in (1, 3, 50):
            wire = codec.squeeze(data) if codec else data
            step = max(1, -(-len(wire) // parts))
            pieces = [wire[at : at + step] for at in range(0, len(wire), step)] or [b""]
            for at, piece in enumerate(pieces):
                end = FIN if at == len(pieces) - 1 else 0
                link.peer.put(end | (CONTINUATION if at else first | (RSV1 if codec else 0)), piece)
            assert link.peer.event() == due
        link.closes_well()

    if squeeze:
        with compression.squeezed(role, {}, compression.WIDE, app=Link.relay) as (link, codec):
            link.writing = {"compress": True}
            play(link, codec)
            assert link.peer.compressed == 3
    else:
        with linked(role, app=Link.relay) as link:
            play(link, None)
