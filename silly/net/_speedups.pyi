from typing import Any

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
    _out: list[bytes | memoryview]
    _dirty: bool
    _all_dirty: list[Any]
    _blocked: bool
    file_sender: object
    _thread: int
    def __init__(self) -> None: ...
    def receive(self, buf: bytearray, size: int, /) -> int: ...
    def on_event(self, mask: int, /) -> None: ...
    def try_queue(self, data: bytes, /) -> bool: ...
    def flush(self) -> None: ...
