"""What wsproto costs; see inputs.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import inputs
import timing
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage
from wsproto.extensions import PerMessageDeflate


def connection(compressed: bool = False) -> Connection:
    """A connection that is open."""
    if not compressed:
        return Connection(ConnectionType.SERVER)
    extension = PerMessageDeflate(server_max_window_bits=12)
    extension.accept("permessage-deflate")
    return Connection(ConnectionType.SERVER, [extension])


def reading(frames: list[bytes], size: int, compressed: bool = False) -> Callable[[], None]:
    open_connection = connection(compressed)
    frame = cycle(frames)

    def read() -> None:
        open_connection.receive_data(next(frame))
        parts = [event.data for event in open_connection.events()]
        message = type(parts[0])().join(parts)
        if len(message) != size:
            raise SystemExit("not the message")

    return read


def writing(texts: list[str], compressed: bool = False) -> Callable[[], object]:
    open_connection = connection(compressed)
    text = cycle(texts)
    return lambda: open_connection.send(TextMessage(data=next(text)))


timing.report({
    **{name: timing.times(reading([frame], inputs.SIZES[name])) for name, frame in inputs.FRAMES.items()},
    inputs.WRITE: timing.times(writing([inputs.payload(125).decode()])),
    inputs.DEFLATE: timing.times(writing([data.decode() for data in inputs.JSONS], True)),
    inputs.INFLATE: timing.times(reading(inputs.COMPRESSED, 1024, True)),
})  # fmt: skip
