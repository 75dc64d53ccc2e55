"""The functions of HTTP that cost the most: in C where the extensions were built
(``_answer_speedups.c``, ``_chunked_speedups.c``, ``_head_speedups.c``), else in Python
(``answer.py``, ``chunk_data.py``, ``http1.py``). The environment variable
``SILLY_PURE=1`` chooses Python.

Not in ``accelerated.py``: a program that only speaks TCP need not load HTTP.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .answer import answer_lines
from .chunk_data import take_chunks
from .http1 import take_request

__all__ = ["answer_lines", "take_chunks", "take_request"]

if os.environ.get("SILLY_PURE") != "1":
    # Each by itself. One is missing where there was no compiler: ``python -m silly -v``
    # tells.
    with suppress(ImportError):
        from ._answer_speedups import answer_lines
    with suppress(ImportError):
        from ._chunked_speedups import take_chunks
    with suppress(ImportError):
        from ._head_speedups import take_request
