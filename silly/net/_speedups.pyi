from typing import Any

from ._gathered import Sealer

def send(fd: int, data: bytes | memoryview, /) -> int: ...

class Gathered:
    fd: int
    werr: str | None
    buf: bytearray
    need: int
    peer_alive: bool
    unsent: int
    received: int
    flushed: int
    queued: int
    _reader: Any
    _payload: Any
    _recv_size: int
    pipe: Sealer | None
    @property
    def _gathered(self) -> list[bytes | memoryview]: ...
    @property
    def _out(self) -> list[bytes | memoryview]: ...
    _dirty: bool
    _all_dirty: list[Any]
    _blocked: bool
    file_sender: object
    def __init__(self, pipe: Sealer | None, /) -> None: ...
    def on_event(self, mask: int, /) -> None: ...
    def try_queue(self, data: bytes, /) -> bool: ...
    def flush(self) -> None: ...
