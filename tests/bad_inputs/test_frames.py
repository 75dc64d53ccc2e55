"""Frames that break RFC 6455: the close code on the wire, and nothing of what comes behind is shown."""

from __future__ import annotations

from typing import Any

import pytest

from ..helpers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, joined, spawn, turn, xor
from .support import (
    LOG,
    SHORT,
    SMALL,
    TCP,
    TLS,
    Role,
    Way,
    both_roles,
    both_transports,
    client_role,
    every_way,
    proven_at,
    read,
    server_role,
)

RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
CONTROL = {"ping": PING, "pong": PONG, "close": CLOSE}
Frames = list[tuple[Any, ...]]


def eight(size: int) -> bytes:
    return size.to_bytes(8, "big")


def two(size: int) -> bytes:
    return size.to_bytes(2, "big")


HUGE = {
    "2^31": 2**31,
    "2^32": 2**32,
    "2^32+3": 2**32 + 3,
    "2^53+1": 2**53 + 1,
    "2^63-1": 2**63 - 1,
}
ILLEGAL = {"2^63": 2**63, "2^63+5": 2**63 + 5, "2^64-1": 2**64 - 1}
"""The highest bit of a 64-bit length must be 0 (section 5.2)."""
BAD_TEXT = {
    "lone-surrogate": b"\xed\xa0\x80",
    "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "overlong-nul": b"\xc0\x80",
    "overlong-slash-2": b"\xc0\xaf",
    "overlong-slash-3": b"\xe0\x80\xaf",
    "overlong-slash-4": b"\xf0\x80\x80\xaf",
    "beyond-unicode": b"\xf4\x90\x80\x80",
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "0xff": b"\xff",
    "0xfe": b"\xfe",
    "lone-continuation": b"\x80",
    "late": "κόσμε".encode() + b"\xed\xa0\x80edited",
}

# Name, frames as (first byte, payload, extended length or None), and the close code.
ROWS: dict[str, tuple[Frames, int]] = {
    # ---- from advisories
    "CVE-2026-59881-rsv1-text": ([(FIN | RSV1 | TEXT, b"x")], 1002),
    "CVE-2026-59881-rsv1-deflated-text": ([(FIN | RSV1 | TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00")], 1002),
    "CVE-2026-59881-rsv1-binary": ([(FIN | RSV1 | BINARY, b"x")], 1002),
    "CVE-2026-59881-rsv1-empty": ([(FIN | RSV1 | BINARY,)], 1002),
    "CVE-2026-59881-rsv1-first-fragment": ([(RSV1 | TEXT, b"x")], 1002),
    "CVE-2026-59881-rsv2": ([(FIN | RSV2 | TEXT, b"x")], 1002),
    "CVE-2026-59881-rsv3": ([(FIN | RSV3 | TEXT, b"x")], 1002),
    "CVE-2026-59881-rsv-all": ([(FIN | RSV1 | RSV2 | RSV3 | BINARY, b"x")], 1002),
    "websockets-16.1-rsv1-continuation": ([(TEXT, b"x"), (FIN | RSV1 | CONTINUATION, b"x")], 1002),
    **{f"eventlet-720-rsv1-{name}": ([(FIN | RSV1 | first,)], 1002) for name, first in CONTROL.items()},
    **{
        f"CVE-2026-54274-announce-{name}": ([(first, b"", eight(2**63 - 1))], 1009)
        for name, first in {"2^63-1": FIN | BINARY, "2^63-1-text": FIN | TEXT, "2^63-1-fragment": BINARY}.items()
    },
    "CVE-2026-54274-announce-limit+1": ([(FIN | BINARY, b"", two(1001))], 1009),
    "CVE-2026-54274-announce-limit+1-after-a-fragment": ([(BINARY, b"x" * 999), (FIN | CONTINUATION, b"xx")], 1009),
    "CVE-2026-48779-fragments-of-1-byte": ([(BINARY, b"x")] + [(CONTINUATION, b"x")] * 10, 1008),
    "CVE-2026-48779-empty-fragments": ([(TEXT,)] + [(CONTINUATION,)] * 10, 1008),
    "CVE-2026-48779-empty-after-text": ([(TEXT, b"x")] + [(CONTINUATION,)] * 10, 1008),
    **{f"CVE-2026-1528-{name}-{kind}": ([(first, b"", eight(size))], 1009)
       for name, size in HUGE.items()
       for kind, first in {"text": FIN | TEXT, "binary": BINARY}.items()},
    **{f"CVE-2026-1528-{name}-{kind}": ([(first, b"", eight(size))], 1002)
       for name, size in ILLEGAL.items()
       for kind, first in {"text": FIN | TEXT, "binary": BINARY}.items()},
    **{f"CVE-2026-1528-sum-300+{name}": ([(BINARY, b"x" * 300), (CONTINUATION, b"", eight(size))], 1009)
       for name, size in HUGE.items()},
    **{f"CVE-2026-1528-sum-300+{name}": ([(BINARY, b"x" * 300), (FIN | CONTINUATION, b"", eight(size))], 1002)
       for name, size in ILLEGAL.items()},
    "CVE-2026-1528-sum-of-fragments": ([(TEXT, b"x" * 400), (CONTINUATION, b"x" * 400), (CONTINUATION, b"x" * 201)], 1009),
    **{f"CVE-2026-1528-ping-of-{name}": ([(FIN | PING, b"", eight(size))], 1002)
       for name, size in {"2^31": 2**31, "2^64-1": 2**64 - 1}.items()},
    # ---- protocol cases
    **{f"control-126-bytes-{name}": ([(FIN | first, b"\x03\xe8" + b"x" * 124)], 1002) for name, first in CONTROL.items()},
    **{f"control-65536-bytes-{name}": ([(FIN | first, b"", eight(65536))], 1002) for name, first in CONTROL.items()},
    **{f"control-5-bytes-in-16-bits-{name}": ([(FIN | first, b"\x03\xe8abc", two(5))], 1002)
       for name, first in CONTROL.items()},
    **{f"control-fragmented-{name}": ([(first, b"\x03\xe8")], 1002) for name, first in CONTROL.items()},
    **{f"length-not-minimal-{size}-in-16-bits": ([(FIN | BINARY, b"x" * size, two(size))], 1002) for size in (0, 1, 125)},
    **{f"length-not-minimal-{size}-in-64-bits": ([(FIN | BINARY, b"x" * min(size, 200), eight(size))], 1002)
       for size in (0, 125, 126, 65535)},
    **{f"opcode-{opcode}{name}": ([(bits | opcode, b"x")], 1002)
       for opcode in (3, 7, 11, 15)
       for name, bits in {"": FIN, "-without-fin": 0}.items()},
    "opcode-3-in-a-message": ([(TEXT, b"x"), (FIN | 3, b"x")], 1002),
    "orphan-continuation": ([(FIN | CONTINUATION, b"x")], 1002),
    "orphan-continuation-empty": ([(FIN | CONTINUATION,)], 1002),
    "orphan-continuation-without-fin": ([(CONTINUATION, b"x")], 1002),
    "orphan-continuation-after-a-message": ([(TEXT, b""), (FIN | CONTINUATION,), (FIN | CONTINUATION, b"x")], 1002),
    "text-in-a-message": ([(TEXT, b"x"), (FIN | TEXT, b"x")], 1002),
    "text-in-an-empty-message": ([(TEXT,), (FIN | TEXT, b"x")], 1002),
    "binary-in-an-empty-message": ([(BINARY,), (BINARY, b"x")], 1002),
    **{f"utf8-{name}": ([(FIN | TEXT, text)], 1007) for name, text in BAD_TEXT.items()},
    **{f"utf8-{name}-no-fin": ([(TEXT, text)], 1007) for name, text in BAD_TEXT.items()},
    "utf8-surrogate-over-two-frames": ([(TEXT, b"\xed"), (CONTINUATION, b"\xa0")], 1007),
    "utf8-overlong-over-empty-frames": ([(TEXT, b"\xe0"), (CONTINUATION,), (CONTINUATION, b"\x80")], 1007),
    "utf8-ping-between": ([(TEXT, b"\xf4"), (FIN | CONTINUATION, b"\x90\x80\x80")], 1007),
    **{f"utf8-cut-at-fin-{len(tail)}-of-4": ([(FIN | TEXT, b"ok" + tail)], 1007)
       for tail in (b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98")},
    "utf8-cut-at-fin-of-a-fragment": ([(TEXT, b"\xe2\x82"), (FIN | CONTINUATION,)], 1007),
    "utf8-cut-then-ascii": ([(TEXT, b"\xe2\x82"), (FIN | CONTINUATION, b"a")], 1007),
    "close-payload-of-1-byte": ([(FIN | CLOSE, b"\x03")], 1002),
    **{f"close-code-{code}": ([(FIN | CLOSE, two(code))], 1002)
       for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
    "close-code-1005-with-reason": ([(FIN | CLOSE, two(1005) + b"why")], 1002),
    "close-reason-0xff": ([(FIN | CLOSE, b"\x03\xe8ok\xff")], 1007),
    "close-reason-cut": ([(FIN | CLOSE, b"\x03\xe8ok\xe2\x82")], 1007),
    "close-reason-surrogate": ([(FIN | CLOSE, b"\x03\xe8\xed\xa0\x80")], 1007),
    "close-reason-of-124-bytes": ([(FIN | CLOSE, b"\x03\xe8" + b"x" * 124)], 1002),
    "lua-2^32+3-read-as-3": ([(FIN | TEXT, b"abc", eight(2**32 + 3))], 1009),
    "lua-1-GiB-frame": ([(FIN | BINARY, b"x" * 100, eight(2**30))], 1009),
}


def until_error(sock: Any) -> Any:
    """Reads until that fails: what came before, and the error."""
    shown = []
    while True:
        data, err = read(sock)
        if data is None:
            return shown, err
        shown.append(data)


def encoded(peer: Any, frames: Frames) -> bytes:
    return b"".join(peer.frame(*frame) for frame in frames)


@every_way
@both_roles
@pytest.mark.parametrize("row", ROWS)
def test_fault(row: str, role: Role, way: Way, logs: Any) -> None:
    """The close code, one line in the log, TCP ended by us, and what comes behind is never shown."""
    frames, code = ROWS[row]
    logs.expect(LOG + f".*{code}")
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: until_error(sock))
        way.deliver(peer, encoded(peer, frames) + peer.frame(FIN | TEXT, b"behind"))
        assert peer.get_close() == (code, sock.closereason)
        shown, err = joined(reading)
        assert "behind" not in shown
        assert isinstance(err, str)
        assert sock.closecode == code
        assert sock.read() == (None, err)
        assert sock.write("late") == (False, err)
        peer.eof()
    assert len(logs.lines) == 1


@both_transports
@both_roles
@pytest.mark.parametrize("first", [FIN | TEXT, FIN | PING, FIN | CLOSE, BINARY, CONTINUATION])
def test_wrong_masking(first: int, role: Role, way: Way, logs: Any) -> None:
    """Section 5.1: a server gets masked frames alone, a client unmasked ones alone."""
    logs.expect(LOG + ".*1002")
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: read(sock))
        peer.masks = not peer.masks
        frame = peer.frame(first, b"\x03\xe8")
        peer.masks = not peer.masks
        peer.send(frame)
        assert peer.get_close()[0] == 1002
        assert joined(reading)[0] is None
        peer.eof()


# ---- faults are answered at the byte that proves them ---------------------------------------------------------------


PROVEN: dict[str, tuple[tuple[Any, ...], str]] = {
    # The frame, and what proves it: a byte of the header counted from 1, or "payload n".
    "rsv": ((FIN | RSV2 | TEXT, b"xyz"), "1"),
    "opcode": ((FIN | 3, b"xyz"), "1"),
    "orphan": ((FIN | CONTINUATION, b"xyz"), "1"),
    "fragmented-control": ((PING, b"xyz"), "1"),
    "control-length": ((FIN | PING, b"x" * 126), "2"),
    "close-of-1-byte": ((FIN | CLOSE, b"x"), "2"),
    "16-bits-not-minimal": ((FIN | BINARY, b"x", two(1)), "4"),
    "64-bits-not-minimal": ((FIN | BINARY, b"x", eight(65535)), "10"),
    "2^63": ((FIN | BINARY, b"x", eight(2**63)), "3"),
    "limit": ((FIN | BINARY, b"x", two(1001)), "4"),
    "utf8": ((FIN | TEXT, b"ok\xffxyz"), "payload 3"),
    "utf8-second-byte": ((FIN | TEXT, b"ok\xed\xa0\x80xyz"), "payload 4"),
    "close-code": ((FIN | CLOSE, two(1005) + b"reason"), "payload 2"),
    "close-reason": ((FIN | CLOSE, b"\x03\xe8ok\xffxyz"), "payload 5"),
}


@both_transports
@both_roles
@pytest.mark.parametrize("row", PROVEN)
def test_refused_at_the_first_byte_that_proves_it(row: str, role: Role, way: Way, logs: Any) -> None:
    """No byte more is waited for. A fault of a length's first bytes may be told at the length's end."""
    logs.expect(LOG)
    frame, at = PROVEN[row]
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: read(sock))
        data = peer.frame(*frame)
        head = len(data) - len(frame[1])
        if at.startswith("payload "):
            last = first = head + int(at[8:])
        else:
            first = int(at)
            last = {"2^63": 10, "rsv": 2, "opcode": 2, "orphan": 2, "fragmented-control": 2}.get(row, first)
        assert first <= proven_at(peer, data) <= last
        assert peer.get_close()[0] in (1002, 1007, 1009)
        assert joined(reading)[0] is None


# ---- what is legal must pass ----------------------------------------------------------------------------------------


@every_way
@both_roles
def test_legal_lengths(role: Role, way: Way) -> None:
    """125-byte control frames, and each form of length at its edges."""
    with role(way, {**SHORT, "message": 70_000}) as (sock, peer):
        sizes = [0, 1, 125, 126, 127] + ([] if way.dribbled else [65535, 65536, 70_000])
        reading = spawn(lambda: [read(sock) for _ in range(2 + len(sizes))])
        data = peer.frame(FIN | PING, b"p" * 125) + peer.frame(FIN | PONG, b"q" * 125)
        way.deliver_all(peer, data + b"".join(peer.frame(FIN | BINARY, b"x" * size) for size in sizes))
        assert joined(reading) == [
            (b"p" * 125, "ping"),
            (b"q" * 125, "pong"),
            *[(b"x" * size, "binary") for size in sizes],
        ]
        assert peer.get() == (FIN | PONG, b"p" * 125)


@every_way
@both_roles
@pytest.mark.parametrize("size", [1, 2, 3])
def test_text_split_inside_code_points(size: int, role: Role, way: Way) -> None:
    text = "é€😀\U0010ffff\ud7ff\ue000\0"
    blob = text.encode()
    with role(way, {**SHORT, "fragments": 100}) as (sock, peer):
        pieces = [blob[at : at + size] for at in range(0, len(blob), size)]
        frames: Frames = [(TEXT, b""), *[(CONTINUATION, piece) for piece in pieces], (FIN | CONTINUATION,)]
        reading = spawn(lambda: read(sock))
        way.deliver_all(peer, encoded(peer, frames))
        assert joined(reading) == (text, "text")


@every_way
@both_roles
@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_legal_close_codes(code: int, role: Role, way: Way) -> None:
    """Section 7.4, and 1012 to 1014 as registered since. Any legal code is echoed; a reason of 123 bytes is legal."""
    payload = two(code) + "é€".encode() + b"x" * 118
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: read(sock))
        way.deliver(peer, peer.frame(FIN | CLOSE, payload))
        assert joined(reading) == (payload, "close")
        assert (sock.closecode, sock.closereason) == (code, payload[2:].decode())
        assert peer.get_close()[0] == code
        if not peer.masks:
            peer.close()
        sock.close()
        if peer.masks:
            peer.eof()


@every_way
@both_roles
@pytest.mark.parametrize("gap", range(4))
@pytest.mark.parametrize("control", ["ping", "pong", "close"])
def test_aiohttp_12988_control_between_fragments(control: str, gap: int, role: Role, way: Way) -> None:
    """At each gap of a fragmented message, before the first and behind the last fragment too."""
    with role(way, SMALL) as (sock, peer):
        frames: Frames = [(TEXT, b"\xe2"), (CONTINUATION, b"\x82"), (FIN | CONTINUATION, b"\xac")]
        payload = b"\x03\xe8" if control == "close" else b"c"
        frames.insert(gap, (FIN | CONTROL[control], payload))
        shown: list[Any] = [("€", "text")]
        if control == "close":
            shown = shown[: int(gap == 3)]
        shown.insert(0 if gap < 3 else 1, (payload, control))
        reading = spawn(lambda: [read(sock) for _ in shown])
        way.deliver_all(peer, encoded(peer, frames))
        assert joined(reading) == shown
        if control != "pong":
            assert peer.get() == (FIN | (PONG if control == "ping" else CLOSE), payload)


@every_way
@both_roles
def test_data_after_close(role: Role, way: Way) -> None:
    """Autobahn 7.1: neither shown nor answered."""
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: [read(sock), sock.read()])
        late = [(FIN | TEXT, b"late"), (FIN | PING, b"late"), (FIN | CLOSE, b"\x03\xe9"), (FIN | 3, b"\xff")]
        way.deliver_all(peer, encoded(peer, [(FIN | CLOSE, b"\x03\xe8"), *late]))
        assert joined(reading) == [(b"\x03\xe8", "close"), (None, "closed")]
        assert peer.get_close() == (1000, "")
        sock.close()
        assert sock.closecode == 1000
        peer.eof()


@every_way
@both_roles
def test_close_inside_a_fragmented_message(role: Role, way: Way) -> None:
    """Autobahn 7.1.5."""
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: [read(sock), sock.read()])
        way.deliver(peer, encoded(peer, [(TEXT, b"begun"), (FIN | CLOSE, b"\x03\xe8")]))
        assert joined(reading) == [(b"\x03\xe8", "close"), (None, "closed")]
        assert peer.get_close() == (1000, "")


@every_way
@both_roles
def test_unsolicited_pong(role: Role, way: Way) -> None:
    """Section 5.5.3: no answer is due."""
    with role(way, SMALL) as (sock, peer):
        reading = spawn(lambda: [read(sock) for _ in range(3)])
        way.deliver_all(peer, encoded(peer, [(FIN | PONG, b"nobody asked"), (FIN | PONG,), (FIN | TEXT, b"x")]))
        assert joined(reading) == [(b"nobody asked", "pong"), (b"", "pong"), ("x", "text")]
        peer.silent()


# ---- masks: the arithmetic at every length and alignment ------------------------------------------------------------


@pytest.mark.parametrize("shift", range(8))
def test_cve_2026_49854_masks(shift: int) -> None:
    """A mask that is applied word by word may not read or write past the payload, wherever that lies in the buffer."""
    payloads = [bytes(range(200, 200 + size)) for size in range(18)]
    with server_role(TCP) as (sock, peer):
        data = peer.frame(FIN | BINARY, b"s" * shift)
        peer.send(data + b"".join(peer.frame(FIN | BINARY, payload) for payload in payloads))
        assert [read(sock)[0] for _ in range(19)] == [b"s" * shift, *payloads]
    with client_role(TCP) as (sock, peer):
        for payload in [b"s" * shift, *payloads]:
            assert sock.write(memoryview(b"#" * shift + payload + b"#")[shift:-1])
        assert [peer.get()[1] for _ in range(19)] == [b"s" * shift, *payloads]


def test_cve_2026_49854_every_mask() -> None:
    """Keys with zero and equal bytes."""
    with server_role(TCP) as (sock, peer):
        for key in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\x01\0\0\0", b"abca"):
            for size in (1, 3, 4, 5, 17, 63, 64, 65):
                payload = bytes(range(size))
                peer.send(bytes((FIN | BINARY, 0x80 | size)) + key + xor(payload, key))
                assert read(sock) == (payload, "binary")


# ---- what we write --------------------------------------------------------------------------------------------------


@both_transports
@both_roles
def test_lua_lengths_written(role: Role, way: Way) -> None:
    """125 bytes in 7 bits, 65,535 in 16: ``get`` checks the form; an empty text frame arrives on TLS too."""
    with role(way) as (sock, peer):
        for size in (0, 125, 126, 65535):
            assert sock.write("x" * size, "text") == (True, None)
            assert peer.get() == (FIN | TEXT, b"x" * size)
        assert sock.write(b"x" * 125, "ping")
        assert peer.get() == (FIN | PING, b"x" * 125)


@both_transports
@both_roles
def test_lua_empty_text_frame(role: Role, way: Way) -> None:
    with role(way) as (sock, peer):
        peer.put(FIN | TEXT)
        assert read(sock) == ("", "text")
        peer.put(FIN | TEXT, "next")
        assert read(sock) == ("next", "text")


@pytest.mark.parametrize("way", [TCP, TLS], ids=["tcp", "tls"])
def test_lua_masks_are_not_letters(way: Way) -> None:
    """Masks are drawn from all bytes, and differ."""
    with client_role(way) as (sock, peer):
        masks = []
        for _ in range(64):
            sock.write(b"\0\0\0\0")
            turn()
            masks.append(peer.read(10)[6:])
        assert len(set(masks)) == 64
        assert any(byte > 0x7F for mask in masks for byte in mask)
