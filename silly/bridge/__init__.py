"""How other people's code runs here, one module for each neighbour. Each
loads when it is first used.

    from silly import bridge

    events, err = bridge.descriptor.wait(0, bridge.descriptor.READ, 100)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import asyncio as asyncio
    from . import descriptor as descriptor
    from . import psycopg as psycopg
    from . import socket as socket

_SUBMODULES = frozenset(("asyncio", "descriptor", "psycopg", "socket"))

if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
