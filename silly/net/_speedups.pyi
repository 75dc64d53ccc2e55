from typing import Any

def receive(fd: int, buf: bytearray, size: int, /) -> int: ...
def send(fd: int, data: bytes | memoryview, /) -> int: ...

class Gathered:
    fd: int
    werr: str | None
    unsent: int
    _out: list[bytes | memoryview]
    _dirty: bool
    _all_dirty: list[Any]
    _blocked: bool
    file_sender: object
    _thread: int
    def __init__(self) -> None: ...
    def try_queue(self, data: bytes, /) -> bool: ...
    def flush(self) -> None: ...
