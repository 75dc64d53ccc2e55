"""Floods within the chunked transfer coding (RFC 9112, section 7.1): bytes that are not data are bounded by the data."""

from __future__ import annotations

import pytest

from .support import bytewise, read_chunked

END = b"0\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def flood(size: int, extension: int, count: int) -> bytes:
    return chunk(b"x" * size, b";" + b"e" * (extension - 1) if extension else b"") * count


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


# A chunk's size line and both its line ends, less 16 bytes and twice the data, adds up to 16 KiB.
AT = [
    pytest.param(1, 250, 16384 // (251 + 4 - 16 - 2), id="one-byte-chunks"),
    pytest.param(5, 100, 16384 // (101 + 4 - 16 - 10), id="five-byte-chunks"),
    pytest.param(100, 250, 16384 // (252 + 4 - 16 - 200), id="larger-chunks"),
]


@pytest.mark.parametrize(("size", "extension", "most"), AT)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_flood_of_extensions(size: int, extension: int, most: int, step: int) -> None:
    """h11 CVE-2025-43859, Go CVE-2023-39326: a limit on each line is none on all. Told alike, whatever the segments."""
    got = read_chunked(pieces_of(flood(size, extension, most) + END, step))
    assert (got.code, got.done, got.body) == (None, True, b"x" * size * most)
    got = read_chunked(pieces_of(flood(size, extension, most + 1) + END, step))
    assert (got.code, got.done) == (400, False)
    # The error comes at the size line, before the chunk.
    assert got.fed <= len(flood(size, extension, most + 1)) - size - 2 + step


@pytest.mark.parametrize(
    ("size", "extension"),
    [
        pytest.param(1, 0, id="a-byte-at-a-time"),
        pytest.param(1, 13, id="a-byte-and-a-short-extension"),
        pytest.param(122, 250, id="half-as-much-data"),
        pytest.param(4096, 83, id="signed-chunks"),
    ],
)
def test_honest_chunks_are_never_a_flood(size: int, extension: int) -> None:
    """16 bytes a chunk are free: who streams a byte at a time, or signs each chunk in its extension, may go on for ever."""
    count = 5000
    got = read_chunked([flood(size, extension, count) + END])
    assert (got.code, got.done, len(got.body)) == (None, True, size * count)


@pytest.mark.parametrize(("size", "extension", "most"), AT)
def test_blanks_behind_a_size_count_as_extensions_do(size: int, extension: int, most: int) -> None:
    blanks = chunk(b"x" * size, b" " * extension)
    assert read_chunked([blanks * most + END], response=True).done
    assert read_chunked([blanks * (most + 1) + END], response=True).code == 400


def test_data_makes_up_for_extensions() -> None:
    """As long as it comes in time: what is owed goes down to nothing, and never below."""
    one = flood(1, 250, 60)
    assert read_chunked([one + one + END]).code == 400
    assert read_chunked([one + chunk(b"x" * 8000) + one + END]).done
    assert read_chunked([chunk(b"x" * 100_000) + one + END]).done
    assert read_chunked([chunk(b"x" * 100_000) + one + one + END]).code == 400


def test_the_last_chunk_counts_too() -> None:
    most = 16384 // (251 + 4 - 16 - 2)
    assert read_chunked([flood(1, 250, most) + b"0;" + b"e" * 249 + b"\r\n\r\n"]).code == 400


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"GET /: HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 5\r\n"])
def test_a_request_in_the_trailers(line: bytes) -> None:
    """gevent CVE-2023-41419, aiohttp CVE-2025-53643: it is refused, never left for the next request's."""
    data = b"1\r\nx\r\n0\r\nA: b\r\n" + line + b"\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n"
    for pieces in ([data], bytewise(data), pieces_of(data, 7)):
        got = read_chunked(pieces)
        assert (got.code, got.done, got.trailer) == (400, False, [])
