"""The data of chunks, taken off the front of a buffer (RFC 9112, section 7.1). This is
what happens for nearly every chunk; ``ChunkedReader`` does the rest, and reports what
is wrong. ``_chunked_speedups.c`` has it in C."""

from __future__ import annotations

import re

AT_SIZE = -1
"""In place of what is still to come of a chunk: a size line comes next."""
OVERHEAD = 16 * 1024
"""The most bytes of chunk-size lines beyond 16 for each chunk and twice its data.
Extensions are dropped, and the limit of a body doesn't count them, so tiny chunks with
long extensions would cost a hundred times as much as the body may. Go has the same
measure and limit."""
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")


def take_chunks(
    buf: bytearray, left: int, overhead: int, most: int, chunks: int, /
) -> tuple[bytes, int, int, int]:
    """Removes chunks from the front of ``buf``, and returns their data.

        buf = bytearray(b"5\\r\\nhello\\r\\n6\\r\\n wo")
        take_chunks(buf, AT_SIZE, 0, 100, 100)      # -> (b"hello wo", 3, 0, 98)

    ``left``: how many bytes of the present chunk's data are still to come; 0 if the
    line end behind them does, AT_SIZE if a size line does. ``overhead``: bytes that
    count toward ``OVERHEAD``, from 0 to there. Takes at most ``most`` bytes of data,
    and begins at most ``chunks`` chunks. Returns the data with ``left``, ``overhead``
    and ``chunks`` as they are then.

    It stops before anything that isn't plain, and leaves that in ``buf``: a size line
    that is not whole, or is more than 1 to 15 digits; one with too much overhead; the
    last chunk; and whatever comes where a chunk's CRLF should be.
    """
    out = bytearray()
    at = 0
    while len(out) < most:
        if left > 0:
            size = min(left, len(buf) - at, most - len(out))
            if not size:
                break
            out += buf[at : at + size]
            at += size
            left -= size
        elif left == 0:
            if buf[at : at + 2] != b"\r\n":
                break
            at += 2
            left = AT_SIZE
        else:
            line = _PLAIN_SIZE.match(buf, at) if chunks > 0 else None
            if line is None:
                break
            size = int(line[1], 16)
            owed = added_overhead(overhead, len(line[1]), size)
            if not size or owed > OVERHEAD:
                break
            at = line.end()
            left, overhead = size, owed
            chunks -= 1
    del buf[:at]
    return bytes(out), left, overhead, chunks


def added_overhead(overhead: int, line: int, size: int) -> int:
    """Returns what ``overhead`` is after a size line of ``line`` bytes, both line ends
    of the chunk not counted in, with ``size`` bytes of data."""
    return max(0, overhead + line + 4 - 16 - 2 * size)
