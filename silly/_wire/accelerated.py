"""The wire functions that cost the most: in C where the extensions were built
(``*_speedups.c``), else in Python (``answer.py``, ``chunk_data.py``, ``http1.py``,
``lines.py``, ``mask.py``, ``messages.py``, ``payload.py``). The environment variable
``SILLY_PURE=1`` chooses Python."""

from __future__ import annotations

import os

from . import answer, lines, mask, messages
from .chunk_data import take_chunks
from .http1 import take_request
from .payload import Payload

__all__ = [
    "Payload",
    "answer_lines",
    "apply_mask",
    "in_c",
    "message_frame",
    "take_chunks",
    "take_messages",
    "take_request",
    "take_until",
    "unmask",
]

apply_mask, unmask, take_until = mask.apply_mask, mask.unmask, lines.take_until
take_messages, message_frame = messages.take_messages, messages.message_frame
answer_lines = answer.answer_lines

in_c = os.environ.get("SILLY_PURE") != "1"
"""Whether all of them are those in C. One is missing where there was no compiler:
``python -m silly -v`` tells."""
if in_c:
    try:
        from ._speedups import (  # type: ignore[assignment]
            Payload,
            apply_mask,
            message_frame,
            take_messages,
            take_until,
            unmask,
        )
    except ImportError:
        in_c = False
    try:
        from ._answer_speedups import answer_lines
    except ImportError:
        in_c = False
    try:
        from ._chunked_speedups import take_chunks
    except ImportError:
        in_c = False
    try:
        from ._head_speedups import take_request
    except ImportError:
        in_c = False
