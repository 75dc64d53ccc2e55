"""What the tests of the network share."""

from __future__ import annotations

import pytest

from silly.net.websocket import _socket


@pytest.fixture(autouse=True)
def looked_through_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that nobody reads is looked through at once, so that tests of it don't wait."""
    monkeypatch.setattr(_socket, "LOOK", 0.01)
