"""The parsers' input: the same bytes for each library."""

from __future__ import annotations

import json
import random
import struct
import zlib

KEY = b"\x12\x34\x56\x78"
TEXT, BINARY, CONTINUATION, FIN, RSV1 = 1, 2, 0, 0x80, 0x40


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    key = (KEY * (size // 4 + 1))[:size]
    return head + KEY + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def payload(size: int) -> bytes:
    """The alphabet, over and over."""
    return bytes(ord("a") + i % 26 for i in range(size))


def deflated(data: bytes) -> bytes:
    """A message of permessage-deflate that refers to none before it."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -12)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _json(source: random.Random) -> bytes:
    """1 KiB."""
    items = [{"id": source.randrange(10**6), "name": f"item {i}", "price": source.uniform(1, 99)} for i in range(40)]
    return json.dumps(items)[:1024].encode()


_source = random.Random(1)
JSONS = [_json(_source) for _ in range(64)]
"""To be compressed by turns: one alone would be a single match with itself."""

FRAMES = {
    "read a masked text frame, 16 bytes": masked(FIN | TEXT, payload(16)),
    "read a masked text frame, 125 bytes": masked(FIN | TEXT, payload(125)),
    "read a masked binary frame, 64 KiB": masked(FIN | BINARY, payload(64 * 1024)),
    "read a masked binary frame, 1 MiB": masked(FIN | BINARY, payload(2**20)),
    "read a text message of 8 fragments, 128 bytes each": masked(TEXT, payload(128))
    + masked(CONTINUATION, payload(128)) * 6
    + masked(FIN, payload(128)),
}
SIZES = dict(zip(FRAMES, (16, 125, 64 * 1024, 2**20, 1024), strict=True))
"""The size of the message that each makes."""
WRITE = "write a server's text frame, 125 bytes"
MASKING = "mask 64 KiB"
MASKED_DATA = payload(64 * 1024)
DEFLATE = "deflate a message of 1 KiB"
INFLATE = "read a compressed masked message of 1 KiB"
COMPRESSED = [masked(FIN | RSV1 | TEXT, deflated(data)) for data in JSONS]

BARE = b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
BROWSER = (
    b"GET /index.html?from=start HTTP/1.1\r\nHost: www.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: session=5f2b1c9e8d7a4b6c; theme=dark\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nPriority: u=0, i\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n\r\n"
)
REQUESTS = {"parse a request's head, Host alone": BARE, "parse a request's head, a browser's": BROWSER}
RESPONSE = "parse a response of 17 bytes"
RESPONSE_DATA = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 17\r\ndate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\r\n"
    b"Hello from Silly!"
)
CHUNKED = "decode a chunked body, 16 chunks of 4 KiB"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_BODY = (b"1000\r\n" + payload(4096) + b"\r\n") * 16 + b"0\r\n\r\n"
CHUNKED_SIZE = 16 * 4096
