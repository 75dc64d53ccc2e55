"""The browsers of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.browser.page", "tests.browser.process")

from .page import CHROMEDRIVER, CHROMIUM, Page  # noqa: E402


@pytest.fixture
def open_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``open_browser(Page)`` starts a browser, or a class derived from that; ``home`` is its HOME."""
    if CHROMIUM is None or CHROMEDRIVER is None:
        missing = "Chromium" if CHROMIUM is None else "chromedriver"
        pytest.skip(f"NO BROWSER: {missing} is not installed (Debian: apt install chromium chromium-driver)")
    pytest.importorskip("selenium", reason="NO BROWSER: selenium is not installed (pip install selenium)")
    # selenium's manager would fetch a browser, and send statistics.
    monkeypatch.setenv("SE_OFFLINE", "true")
    monkeypatch.setenv("SE_AVOID_STATS", "true")
    pages: list[Page] = []

    def start(kind: type[Page], home: Path | None = None) -> Page:
        pages.append(kind(tmp_path / f"profile{len(pages)}", home))
        return pages[-1]

    yield start
    for page in pages:
        page.driver.quit()
