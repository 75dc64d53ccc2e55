"""What the server of `make soak` sends."""

from __future__ import annotations


def body(size: int) -> bytes:
    """No two places of it look the same."""
    return b"".join([b"%15d\n" % at for at in range(0, size, 16)])[:size]
