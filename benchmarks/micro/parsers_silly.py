"""What our parsers cost; see inputs.py. They are private, so this follows them when they change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import inputs
import timing

import silly
from silly._wire import http1
from silly._wire.accelerated import apply_mask, message_frame, take_messages
from silly._wire.accelerated_http import take_request
from silly._wire.chunked import ChunkedReader
from silly._wire.deflate import Deflate, Deflater, Inflater
from silly._wire.ws import MessageReader

LIMITS = silly.Limits(message=2**21)


def reading(frames: list[bytes], size: int, reader: MessageReader) -> Callable[[], None]:
    """Reads messages, each as ``sock.read`` does."""
    frame = cycle(frames)
    buf = bytearray()
    rest: list[tuple[str | bytes, str]] = []

    def read() -> None:
        buf.extend(next(frame))
        got = take_messages(buf, rest, True, reader.fast_limit)
        if got is not None:
            data = got[0]
        else:
            message = reader.next(buf)
            if message == 0:  # much was inflated: a server lets other tasks go first
                message = reader.next(buf)
            if isinstance(message, int):
                raise SystemExit("a whole message was not taken")
            data = message[1]
        if len(data) != size or buf:
            raise SystemExit("not the message")

    return read


def request(head: bytes) -> Callable[[], object]:
    buf = bytearray()
    heads = http1.HeadReader(LIMITS)

    def parse() -> object:
        """As a server's connection does."""
        buf.extend(head)
        request = take_request(buf, LIMITS)
        if request is not None:
            return request
        taken = heads.next(buf)
        if taken is None:
            raise SystemExit("a whole head was not taken")
        return http1.parse_request(taken, LIMITS)

    return parse


def response() -> Callable[[], object]:
    buf = bytearray()
    heads = http1.HeadReader(LIMITS)

    def parse() -> object:
        buf.extend(inputs.RESPONSE_DATA)
        taken = heads.next(buf)
        if taken is None:
            raise SystemExit("a whole head was not taken")
        head = http1.parse_response(taken, LIMITS)
        size = http1.response_body_length(head, "GET")
        body = bytes(buf[:size])
        del buf[:size]
        return body

    return parse


def chunked() -> None:
    head = http1.HeadReader(LIMITS)
    buf = bytearray(inputs.CHUNKED_HEAD + inputs.CHUNKED_BODY)
    taken = head.next(buf)
    if taken is None:
        raise SystemExit("a whole head was not taken")
    http1.parse_request(taken, LIMITS)
    reader = ChunkedReader(LIMITS)
    if len(reader.read(buf, inputs.CHUNKED_SIZE + 1)) != inputs.CHUNKED_SIZE or not reader.done:
        raise SystemExit("not the body")


text = inputs.payload(125).decode()
jsons = cycle(inputs.JSONS)
deflater = Deflater(False, 12, Deflate())
inflating = reading(inputs.COMPRESSED, 1024, MessageReader(True, LIMITS, Inflater(False, 15)))
timing.report({
    **{
        name: timing.times(reading([frame], inputs.SIZES[name], MessageReader(True, LIMITS)))
        for name, frame in inputs.FRAMES.items()
    },
    inputs.WRITE: timing.times(lambda: message_frame(text, "text", None)),
    inputs.MASKING: timing.times(lambda: apply_mask(inputs.MASKED_DATA, inputs.KEY)),
    inputs.DEFLATE: timing.times(lambda: deflater.piece(next(jsons), True)),
    inputs.INFLATE: timing.times(inflating),
    **{name: timing.times(request(head)) for name, head in inputs.REQUESTS.items()},
    inputs.RESPONSE: timing.times(response()),
    inputs.CHUNKED: timing.times(chunked),
})  # fmt: skip
