"""The code of docs/bridges.md runs, and does what the page says: its first part. The bridges' own sections are tested beside
them, in ``bridge/``."""

from __future__ import annotations

import os
import re
from typing import Any

from silly import errno

from .test_docs import DOCS

PAGE = "bridges.md"


def section(title: str, page: str = PAGE) -> dict[str, Any]:
    """Runs the code below a heading, and returns the names that it defines."""
    text = (DOCS / page).read_text()
    _, _, rest = text.partition(f"\n## {title}\n")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)
    assert blocks, title
    for block in blocks:
        exec(block, names)
    return names


def test_descriptors() -> None:
    read = section("Descriptors")["read"]
    reader, writer = os.pipe()
    assert read(reader, 1) == (None, errno.TIMEDOUT)
    os.write(writer, b"hello")
    assert read(reader) == (b"hello", None)
    os.close(writer)
    assert read(reader, 1000) == (b"", None)
    os.close(reader)
