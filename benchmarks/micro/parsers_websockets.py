"""The cost of the sans-I/O layer of websockets; see inputs.py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import inputs
import timing
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import apply_mask

try:  # the function in C, which its connections use when it is there
    from websockets.speedups import apply_mask
except ImportError:
    pass


def protocol() -> ServerProtocol:
    """A connection that is open."""
    return ServerProtocol(state=State.OPEN, max_size=2**21)


def reading(frames: list[bytes], size: int, extensions: list[PerMessageDeflate]) -> Callable[[], None]:
    connection = protocol()
    connection.extensions = extensions
    each = cycle(frames)

    def read() -> None:
        connection.receive_data(next(each))
        got = connection.events_received()
        data = b"".join([frame.data for frame in got]) if len(got) > 1 else got[0].data
        message = data.decode() if got[0].opcode is Opcode.TEXT else data
        if len(message) != size:
            raise SystemExit("not the message")

    return read


def writing() -> Callable[[], object]:
    connection = protocol()
    text = inputs.payload(125).decode()

    def write() -> object:
        connection.send_text(text.encode())
        return connection.data_to_send()

    return write


deflate = PerMessageDeflate(False, False, 15, 12, {"memLevel": 5})
messages = cycle([Frame(Opcode.TEXT, data) for data in inputs.JSONS])
inflating = reading(inputs.COMPRESSED, 1024, [PerMessageDeflate(False, False, 15, 12, {"memLevel": 5})])
timing.report({
    **{name: timing.times(reading([frame], inputs.SIZES[name], [])) for name, frame in inputs.FRAMES.items()},
    inputs.WRITE: timing.times(writing()),
    inputs.MASKING: timing.times(lambda: apply_mask(inputs.MASKED_DATA, inputs.KEY)),
    inputs.DEFLATE: timing.times(lambda: deflate.encode(next(messages))),
    inputs.INFLATE: timing.times(inflating),
})  # fmt: skip
