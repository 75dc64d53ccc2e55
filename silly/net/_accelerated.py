"""The part of a stream that runs for nearly every message: in C where the extension was
built (``_speedups.c``), else in Python (``_descriptor.py``, ``_gathered.py``). The
environment variable ``SILLY_PURE=1`` chooses Python, as for ``_wire/accelerated.py``.
"""

from __future__ import annotations

import os

from ._descriptor import send
from ._gathered import Gathered

__all__ = ["Gathered", "in_c", "send"]

in_c = False
"""Whether the functions here are those in C."""
if os.environ.get("SILLY_PURE") != "1":
    try:
        from ._speedups import Gathered, send  # type: ignore[assignment]
    except ImportError:
        pass  # installed without a compiler: ``python -m silly -v`` says so
    else:
        in_c = True
