"""Masking (RFC 6455, section 5.3) against a naive reference, and the keys (section 10.3)."""

from __future__ import annotations

import os
from typing import Any

import pytest

from silly._wire import accelerated, mask
from silly._wire.mask import MaskKeys

from .support import KEY, naive_mask

DATA = bytes((i * 7 + i // 256) % 256 for i in range(64 * 1024 + 32))
KINDS = [bytes, bytearray, memoryview]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [*range(18), 125, 126, 511, 512, 513, 514, 515, 4096], ids=lambda n: f"rfc6455-5.3-size-{n}")
def test_parity_at_every_alignment(size: int, kind: type) -> None:
    for offset in range(18):
        data = DATA[offset : offset + size]
        view: Any = memoryview(DATA)[offset : offset + size] if kind is memoryview else kind(data)
        got = accelerated.apply_mask(view, KEY)
        assert type(got) is bytes
        assert got == naive_mask(data, KEY)
        assert bytes(view) == data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1])
def test_parity_of_big_payloads(size: int, kind: type) -> None:
    assert accelerated.apply_mask(kind(DATA[:size]), KEY) == naive_mask(DATA[:size], KEY)


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04", b"\x00\x00\x00\x80", b"\xff\0\0\0"])
@pytest.mark.parametrize("size", [0, 1, 7, 511, 512, 513])
def test_keys(size: int, key: bytes) -> None:
    data = DATA[:size]
    for kind in (bytes, bytearray):
        assert accelerated.apply_mask(data, kind(key)) == naive_mask(data, key)
    assert accelerated.apply_mask(accelerated.apply_mask(data, key), key) == data


@pytest.mark.parametrize("size", [5, 20, 600, 2000])
def test_rotation(size: int) -> None:
    """Unmasked in two pieces, the second with the key turned by the first one's length, it is the same."""
    masked = naive_mask(DATA[:size], KEY)
    for cut in range(min(size, 12)):
        turn = cut % 4
        turned = KEY[turn:] + KEY[:turn]
        assert accelerated.apply_mask(masked[:cut], KEY) + accelerated.apply_mask(masked[cut:], turned) == DATA[:size]


def test_every_byte_with_every_key_byte() -> None:
    """Both ways of masking: the short one, and from 512 bytes on the one by tables."""
    every = bytes(range(256))
    for value in range(256):
        key = bytes((value, 255 - value, value ^ 0x55, 0))
        for data in (every, every * 3):
            assert accelerated.apply_mask(data, key) == naive_mask(data, key)


def test_keys_are_unequal_and_of_four_bytes() -> None:
    keys = MaskKeys()
    drawn = [keys.next() for _ in range(2000)]
    assert {len(key) for key in drawn} == {4}
    # 2000 of 2^32: that two are equal happens once in two thousand runs, that three pairs are, never.
    assert len(set(drawn)) >= 1998
    assert drawn[:50] != [MaskKeys().next() for _ in range(50)]


def test_keys_are_the_systems_random_bytes_each_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[bytes] = []
    real = os.urandom

    def urandom(size: int) -> bytes:
        blocks.append(real(size))
        return blocks[-1]

    monkeypatch.setattr(mask.os, "urandom", urandom)
    keys = MaskKeys()
    assert blocks == [], "nothing is drawn before it is needed"
    per_block = MaskKeys._BLOCK // 4
    drawn = b"".join(keys.next() for _ in range(3 * per_block + 1))
    assert len(blocks) == 4
    assert drawn == b"".join(blocks)[: len(drawn)]
