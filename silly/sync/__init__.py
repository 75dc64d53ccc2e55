"""Synchronisation between tasks: ``silly.sync.channel``, which loads when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import channel as channel


def __getattr__(name: str) -> Any:
    if name == "channel":
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
