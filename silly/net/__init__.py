"""The network: ``silly.net.tcp``, ``tls``, ``udp``, ``http``, ``websocket`` and
``addr``. Each loads when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import addr as addr
    from . import http as http
    from . import tcp as tcp
    from . import tls as tls
    from . import udp as udp
    from . import websocket as websocket

_SUBMODULES = frozenset(("addr", "http", "tcp", "tls", "udp", "websocket"))

if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
