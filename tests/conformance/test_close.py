"""RFC 6455, sections 5.5.1 and 7: the closing handshake, its codes and reasons, and who ends TCP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from silly import time

from ..helpers import CLOSE, FIN, client_side, joined, server_side, spawn, turn
from .support import CLIENT, ROLES, SERVER, Frame, Vector, binary, cases, close, last, linked, more, ping, pong, text

# ---- the peer closes ------------------------------------------------------------------------------------------------

GOOD_CODES = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3001, 3999, 4000, 4001, 4999)
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1099, 1100, 1999, 2000, 2001, 2999, 5000, 5001, 32768, 65535)
REASONS = {
    "ascii": "Going away",
    "unicode": "Größe: €𐍈",
    "NUL": "a\x00b",
    "non-character": "\ufffe\U0010ffff",
    "123": "x" * 123,
    "123-of-3-octet-characters": "€" * 41,
    "1": "x",
}


def answered_close(payload: bytes, mode: str, role: str, logs: Any, before: Any = (), behind: Any = ()) -> None:
    """A good close is answered with its code; nothing behind it is; the application has the code and the reason."""
    with linked(role) as link:
        peer = link.peer
        peer.play([*before, (FIN | CLOSE, payload), *behind], mode)
        for frame in before:
            assert peer.event() == ("pong" if frame == ping(b"p") else "text", frame[1])
        assert peer.event() == ("close", payload[:2])
        link.tcp_ends()
        link.until_ended()
        assert link.heard[-1] == (payload, "close")
        assert link.sock.closecode == (int.from_bytes(payload[:2], "big") if payload else 1005)
        assert link.sock.closereason == payload[2:].decode()
        assert len(link.messages) == sum(frame != ping(b"p") for frame in before)


MODES = pytest.mark.parametrize("mode", ["whole", "octets"])
IN_ROLES = pytest.mark.parametrize("role", ROLES)


@IN_ROLES
@MODES
@pytest.mark.parametrize("reason", ["", "reason"], ids=["bare", "with-reason"])
@pytest.mark.parametrize("code", GOOD_CODES, ids=lambda code: f"7.4-code-{code}")
def test_good_codes(code: int, reason: str, mode: str, role: str, logs: Any) -> None:
    answered_close(close(code, reason)[1], mode, role, logs)


@IN_ROLES
@MODES
@pytest.mark.parametrize("name", REASONS, ids=lambda name: f"7.1.6-reason-{name}")
def test_good_reasons(name: str, mode: str, role: str, logs: Any) -> None:
    answered_close(close(1000, REASONS[name])[1], mode, role, logs)


@IN_ROLES
@MODES
def test_empty_close(mode: str, role: str, logs: Any) -> None:
    """7.1.5-empty: no code is 1005 for the application, and no code on the wire."""
    answered_close(b"", mode, role, logs)


LATE: dict[str, list[Frame]] = {
    "text": [text("late")],
    "binary": [binary(b"late")],
    "ping": [ping(b"late")],
    "pong": [pong(b"late")],
    "close": [close(1000)],
    "other-close": [close(1001, "late")],
    "empty-close": [close(None)],
    "fragments": [text("late", final=False), more("late"), last("late")],
    "large": [binary(b"late" * 50_000)],
    "orphan": [last("late")],
    "reserved": [(0xF1, b"late")],
    "opcode-15": [(0x8F, b"late")],
    "bad-text": [text(b"\xff")],
    "bad-close": [close(999)],
    "all": [ping(b"1"), text("2"), close(1000), ping(b"3"), (0xFF, b""), binary(b"x" * 300)],
}


@IN_ROLES
@MODES
@pytest.mark.parametrize("before", [[], [text("good")], [ping(b"p")]], ids=["first", "behind-a-message", "behind-a-ping"])
@pytest.mark.parametrize("name", LATE, ids=lambda name: f"5.5.1-after-the-close-{name}")
def test_nothing_counts_after_the_close(name: str, before: list[Frame], mode: str, role: str, logs: Any) -> None:
    """Good or bad, what is behind a close frame is neither answered nor shown."""
    if name == "large" and mode == "octets":
        mode = "frames"
    logs.allow(r"^INFO websocket: ")
    answered_close(close(1000, "bye")[1], mode, role, logs, before, LATE[name])


def bad_closes() -> list[Vector]:
    found = [Vector(f"7.4-bad-code-{code}", [close(code), ping(b"late")], [], 1002) for code in BAD_CODES]
    found += [Vector(f"7.4-bad-code-{code}-with-reason", [close(code, "reason")], [], 1002) for code in BAD_CODES]
    found += [
        Vector("5.5.1-1-byte", [(FIN | CLOSE, b"\x03")], [], 1002),
        Vector("5.5.1-1-byte-after-a-message", [text("good"), (FIN | CLOSE, b"\x03")], [("text", b"good")], 1002),
        Vector("5.5-reason-of-124", [close(1000, "x" * 124), ping()], [], 1002),
        Vector("5.5-reason-of-200", [close(1000, "x" * 200), ping()], [], 1002),
        Vector("5.5-reason-of-70000", [close(1000, "x" * 70_000), ping()], [], 1002),
        Vector("5.5-fragmented", [(CLOSE, b"\x03\xe8"), last(b"reason")], [], 1002),
        Vector("5.5-fragmented-empty", [(CLOSE, b"")], [], 1002),
        Vector("7.4-bad-code-after-a-message", [text("good"), close(1005)], [("text", b"good")], 1002),
        Vector("7.4-bad-code-inside-a-message", [text("begun", final=False), close(1006)], [], 1002),
        Vector("7.4-bad-code-and-bad-reason", [close(999, b"\xff")], [], 1002),
    ]
    for name, reason in {
        "FF": b"\xff",
        "continuation": b"ok\x80",
        "overlong": b"\xc0\xaf",
        "surrogate": b"\xed\xa0\x80",
        "pair": b"\xed\xa0\x80\xed\xb0\x80",
        "beyond": b"\xf4\x90\x80\x80",
        "cut-2": b"cut\xc3",
        "cut-3": b"cut\xe2\x82",
        "cut-4": b"cut\xf0\x90\x8d",
        "cut-at-123": b"x" * 121 + b"\xe2\x82",
        "latin-1": "Größe".encode("latin-1"),
    }.items():
        found.append(Vector(f"7.1.6-reason-that-is-no-text-{name}", [close(1000, reason), ping()], [], 1007))
        found.append(Vector(f"7.1.6-4999-and-no-text-{name}", [text("good"), close(4999, reason)], [("text", b"good")], 1007))
    return found


@cases(bad_closes(), modes=("whole", "frames", "octets"))
def test_bad_closes(vector: Vector, role: str, mode: str, logs: Any) -> None:
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        link.peer.play(vector.frames, mode)
        for event in vector.due:
            assert link.peer.event() == event
        assert vector.code is not None
        link.fails(vector.code)
        assert link.messages == list(vector.due)


@IN_ROLES
@pytest.mark.parametrize("code", BAD_CODES, ids=lambda code: f"7.4-at-once-{code}")
def test_bad_code_is_refused_at_its_second_octet(code: int, role: str, logs: Any) -> None:
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        wire = link.peer.begin(FIN | CLOSE, 100, code.to_bytes(2, "big"))
        link.peer.dribble(wire[:-1])
        link.peer.quiet()
        link.peer.send(wire[-1:])
        link.fails(1002)


@IN_ROLES
@pytest.mark.parametrize("good", ["", "ok €"], ids=["first", "later"])
def test_bad_reason_is_refused_at_once(good: str, role: str, logs: Any) -> None:
    """8.1-reason-at-once: the octet that proves it, the frame unfinished."""
    logs.allow(r"^INFO websocket: ")
    with linked(role) as link:
        wire = link.peer.begin(FIN | CLOSE, 100, b"\x03\xe8" + good.encode() + b"\xff")
        link.peer.dribble(wire[:-1])
        link.peer.quiet()
        link.peer.send(wire[-1:])
        link.fails(1007)


@IN_ROLES
@pytest.mark.parametrize("size", [2, 25, 125], ids=lambda size: f"5.5.1-good-close-is-waited-for-{size}")
def test_good_close_is_waited_for(size: int, role: str) -> None:
    """A close that may still be good is not answered before its last octet."""
    with linked(role) as link:
        wire = link.peer.frame(*close(1000, "x" * (size - 2)))
        link.peer.dribble(wire[:-1])
        link.peer.quiet()
        link.peer.send(wire[-1:])
        assert link.peer.event() == ("close", b"\x03\xe8")
        link.tcp_ends()
        link.until_ended()


# ---- we close -------------------------------------------------------------------------------------------------------


@contextmanager
def open_pair(role: str, close_timeout: int = 5000) -> Iterator[tuple[Any, Any]]:
    with (server_side if role == SERVER else client_side)({"close_timeout": close_timeout}) as pair:
        yield pair


def ends_tcp(peer: Any, role: str) -> None:
    if role == CLIENT:
        peer.silent()
        peer.half_close()
    peer.eof()


@IN_ROLES
@pytest.mark.parametrize("code", GOOD_CODES, ids=lambda code: f"7.1.2-we-close-{code}")
def test_we_close(code: int, role: str) -> None:
    with open_pair(role) as (sock, peer):
        closing = spawn(lambda: sock.close(code, "warum nicht: €"))
        assert peer.get_close() == (code, "warum nicht: €")
        peer.silent()  # TCP stays until the answer is there
        peer.put_close(code)
        ends_tcp(peer, role)
        assert joined(closing) == (True, None)
        assert (sock.closecode, sock.closereason) == (code, "")


@IN_ROLES
@pytest.mark.parametrize("code", BAD_CODES, ids=lambda code: f"7.4-we-never-send-{code}")
def test_codes_that_we_never_send(code: int, role: str) -> None:
    with open_pair(role) as (sock, peer):
        with pytest.raises(ValueError):
            sock.close(code)
        peer.silent()
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        peer.put_close()
        ends_tcp(peer, role)
        assert joined(closing) == (True, None)


@IN_ROLES
@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        pytest.param((1001, "me too"), 1001, "me too", id="7.1.5-answered-1001"),
        pytest.param((4999, "ü" * 61), 4999, "ü" * 61, id="7.1.5-answered-4999"),
        pytest.param((1011, ""), 1011, "", id="7.1.5-answered-1011"),
        pytest.param(None, 1005, "", id="7.1.5-answered-empty"),
    ],
)
def test_answered_otherwise(answer: tuple[int, str] | None, code: int, reason: str, role: str) -> None:
    with open_pair(role) as (sock, peer):
        closing = spawn(lambda: sock.close(1000, "bye"))
        assert peer.get_close() == (1000, "bye")
        if answer is None:
            peer.put(FIN | CLOSE)
        else:
            peer.put_close(*answer)
        ends_tcp(peer, role)
        assert joined(closing) == (True, None)
        assert (sock.closecode, sock.closereason) == (code, reason)


@IN_ROLES
@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([text("late")], id="5.5.1-text-before-the-answer"),
        pytest.param([binary(b"late" * 10_000)], id="5.5.1-binary-before-the-answer"),
        pytest.param([text("a", final=False), more("b"), last("c")], id="5.5.1-fragments-before-the-answer"),
        pytest.param([text("a", final=False)], id="5.5.1-half-a-message-before-the-answer"),
        pytest.param([ping(b"1"), pong(b"2")], id="5.5.1-pings-before-the-answer"),
        pytest.param([text("x"), ping(b"1"), binary(b"y")] * 50, id="5.5.1-much-before-the-answer"),
    ],
)
@pytest.mark.parametrize("mode", ["whole", "dribbled"])
def test_data_before_the_answer(frames: list[Frame], mode: str, role: str) -> None:
    """What the peer had under way is let pass; behind our close frame we send nothing at all."""
    with open_pair(role) as (sock, peer):
        closing = spawn(lambda: sock.close(1000))
        assert peer.get_close() == (1000, "")
        data = b"".join(peer.frame(*frame) for frame in [*frames, close(1000, "answer")])
        if mode == "whole" or len(data) > 1000:
            peer.send(data)
        else:
            peer.dribble(data)
        ends_tcp(peer, role)
        assert joined(closing) == (True, None)
        assert (sock.closecode, sock.closereason) == (1000, "answer")


@IN_ROLES
def test_never_answered(role: str) -> None:
    """7.1.1-never-answered: TCP ends after the limit; 1006."""
    with open_pair(role, 50) as (sock, peer):
        begin = time.monotonic()
        assert sock.close(3000, "x") == (True, None)
        assert time.monotonic() - begin >= 40
        assert peer.get_close() == (3000, "x")
        peer.eof()
        assert sock.closecode == 1006


@IN_ROLES
def test_tcp_left_open_behind_the_answer(role: str) -> None:
    """7.1.1-tcp-left-open: a server doesn't wait for it; a client does, for the limit."""
    with open_pair(role, 50) as (sock, peer):
        closing = spawn(sock.close)
        peer.get_close()
        peer.put_close()
        peer.eof()
        assert joined(closing) == (True, None)
        assert sock.closecode == 1000


@IN_ROLES
def test_tcp_ended_instead_of_an_answer(role: str) -> None:
    """7.1.5-no-answer: 1006."""
    with open_pair(role) as (sock, peer):
        closing = spawn(sock.close)
        peer.get_close()
        peer.half_close()
        peer.eof()
        assert joined(closing) == (True, None)
        assert sock.closecode == 1006


@IN_ROLES
@pytest.mark.parametrize("state", ["idle", "in-a-header", "in-a-frame", "in-a-message"])
def test_tcp_ended_without_a_close(state: str, role: str) -> None:
    """7.1.5-abnormal: 1006, which is never on the wire."""
    with linked(role) as link:
        peer = link.peer
        if state == "in-a-header":
            peer.send(peer.begin(FIN | 2, 1000)[:1])
        elif state == "in-a-frame":
            peer.send(peer.begin(FIN | 2, 1000, b"some"))
        elif state == "in-a-message":
            peer.put(*text("some", final=False))
        turn(2)
        peer.half_close()
        link.until_ended()
        assert link.sock.closecode == 1006
        event = peer.event()
        assert event is None or (event[0] == "close" and event[1][:2] != b"\x03\xee")
        assert link.messages == []


@IN_ROLES
@pytest.mark.parametrize(("ours", "theirs"), [(1000, 1000), (1000, 1001), (3000, 4000)], ids=lambda code: f"7.1.5-both-{code}")
def test_both_close_at_once(ours: int, theirs: int, role: str) -> None:
    """Each frame answers the other: no second close frame."""
    with open_pair(role) as (sock, peer):
        peer.send(peer.frame(*close(theirs, "peer")))
        closing = spawn(lambda: sock.close(ours, "we"))
        code, _ = peer.get_close()
        assert code in (ours, theirs)
        if code == ours != theirs:
            assert sock.closecode in (ours, theirs, None)
        ends_tcp(peer, role)
        joined(closing)
        assert sock.closecode == theirs


@IN_ROLES
@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([close(999)], id="7.1.7-bad-answer-code"),
        pytest.param([(FIN | CLOSE, b"\x03")], id="7.1.7-bad-answer-1-byte"),
        pytest.param([close(1000, b"\xff")], id="7.1.7-bad-answer-reason"),
        pytest.param([(0xC1, b"x")], id="7.1.7-reserved-bit-before-the-answer"),
        pytest.param([(0x8F, b"x")], id="7.1.7-opcode-before-the-answer"),
    ],
)
def test_faults_while_we_close(frames: list[Frame], role: str, logs: Any) -> None:
    """One close frame is all we ever send (5.5.1); TCP ends."""
    logs.allow(r"^INFO websocket: ")
    with open_pair(role, 1000) as (sock, peer):
        closing = spawn(sock.close)
        assert peer.get_close() == (1000, "")
        peer.send(b"".join(peer.frame(*frame) for frame in frames))
        peer.half_close()
        peer.eof()
        joined(closing)
        assert sock.closecode is not None


@IN_ROLES
@pytest.mark.parametrize("typ", ["text", "binary", "ping", "pong"])
def test_nothing_is_sent_after_our_close(typ: str, role: str) -> None:
    """5.5.1-no-more: writes fail."""
    with open_pair(role) as (sock, peer):
        closing = spawn(sock.close)
        peer.get_close()
        ok, err = sock.write("late", typ)
        assert not ok
        assert err
        peer.put_close()
        ends_tcp(peer, role)
        assert joined(closing) == (True, None)
