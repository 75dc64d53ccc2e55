"""What the tests of the network share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from silly.net.websocket import _unread

from .http_client_support import drained


@pytest.fixture(autouse=True)
def looked_through_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that no task reads is taken at once, so that tests of it don't wait."""
    monkeypatch.setattr(_unread, "LOOK", 0.01)


@pytest.fixture
def nothing_lingers() -> Iterator[None]:
    """Waits at the end for what the test closed while its peer still sent."""
    yield
    drained()
