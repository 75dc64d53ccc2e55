"""Synchronisation between tasks: ``silly.sync.channel``, ``semaphore``, ``event``,
``pool``, ``mutex``, ``waitgroup`` and ``singleflight``. Each loads when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import channel as channel
    from . import event as event
    from . import mutex as mutex
    from . import pool as pool
    from . import semaphore as semaphore
    from . import singleflight as singleflight
    from . import waitgroup as waitgroup

_SUBMODULES = frozenset(("channel", "event", "mutex", "pool", "semaphore", "singleflight", "waitgroup"))

if not TYPE_CHECKING:  # a type checker knows the names above, and must report all others

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
