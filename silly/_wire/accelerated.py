"""The wire functions that cost the most, but for those of HTTP, which
``accelerated_http.py`` has: in C where the extension was built (``_speedups.c``), else
in Python (``lines.py``, ``mask.py``, ``messages.py``, ``payload.py``). The environment
variable ``SILLY_PURE=1`` chooses Python."""

from __future__ import annotations

import os

from . import lines, mask, messages
from .payload import Payload

__all__ = ["Payload", "apply_mask", "in_c", "message_frame", "take_messages", "take_until", "unmask"]

in_c = False
"""Whether they are those in C."""
apply_mask, unmask, take_until = mask.apply_mask, mask.unmask, lines.take_until
take_messages, message_frame = messages.take_messages, messages.message_frame

if os.environ.get("SILLY_PURE") != "1":
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
        pass  # there was no compiler when it was installed: ``python -m silly -v`` tells
    else:
        in_c = True
