"""The code of docs/udp.md runs, and does what the page says."""

from __future__ import annotations

from typing import Any

import pytest

from silly import check, errno
from silly.net import udp

from .helpers import WITHIN, spawn, turn
from .net.support import LOOPBACK
from .test_docs import defined


@pytest.fixture
def guide() -> dict[str, Any]:
    """The names that the code of the page defines."""
    return defined("udp.md", 5)


def test_a_question(guide: dict[str, Any]) -> None:
    with guide["serve"]("127.0.0.1:0") as server:
        assert guide["ask"](server.addr, "how are you?") == (b"HOW ARE YOU?", None)
        assert guide["ask"](server.addr, "") == (b"", None)
        addr = server.addr
    turn(2)
    assert guide["ask"](addr, "anybody?") == (None, errno.CONNREFUSED)
    with check(udp.bind("127.0.0.1:0")) as mute:
        asking = spawn(lambda: guide["ask"](mute.addr, "again?"))
        first, client = mute.recvfrom(WITHIN)
        assert mute.recvfrom(WITHIN) == (first, client)
        mute.sendto("the second time", client)
        assert asking.pop()[0] == ((b"the second time", None),)


def test_behind(guide: dict[str, Any]) -> None:
    lines = [f"line {number}".encode() for number in range(50)]
    kept, dropped = guide["logged"](lines)
    assert kept == lines
    assert dropped in (0, None)


def test_a_group(guide: dict[str, Any]) -> None:
    with guide["listen_to"]("239.9.8.7", 0, LOOPBACK) as conn:
        assert guide["announce"]("239.9.8.7", conn.port, LOOPBACK, "hello") == (True, None)
        assert conn.recvfrom(WITHIN)[0] == b"hello"


def test_the_first_of_two(guide: dict[str, Any]) -> None:
    with check(udp.bind("127.0.0.1:0")) as one, check(udp.bind("127.0.0.1:0")) as other:
        one.sendto("x", other.addr)
        assert guide["first_of"](one, other) == b"x"
