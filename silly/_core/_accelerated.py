"""What every switch from task to task runs: in C where the extension was built
(``_speedups.c``), else in Python (``_fields.py``, and ``plain_park`` and so on of the
scheduler). The environment variable ``SILLY_PURE=1`` chooses Python, as for
``_wire/accelerated.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ._fields import LoopFields, TaskFields

__all__ = ["LoopFields", "TaskFields", "switching"]

switching: tuple[Callable[..., None], Callable[..., Any], Callable[[], None], Callable[..., None]] | None = None
"""``begin``, ``park``, ``pause`` and ``wake`` in C, or None."""
if os.environ.get("SILLY_PURE") != "1":
    try:
        from ._speedups import LoopFields, TaskFields, begin, park, pause, wake
    except ImportError:
        pass  # installed without a compiler: ``python -m silly -v`` says so
    else:
        switching = begin, park, pause, wake
