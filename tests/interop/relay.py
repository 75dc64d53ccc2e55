"""A TCP relay that counts: how many bytes a connection really takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from silly import check, task
from silly.net import tcp


class Relay:
    """Passes connections to ``port`` on to the port ``to``. ``up``: bytes from the client; ``down``: bytes to it."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.up = 0
        self.down = 0
        self._listener = check(tcp.listen("127.0.0.1:0", self._accepted))
        self.port: int = self._listener.port

    def counts(self) -> tuple[int, int]:
        """``up`` and ``down``."""
        return self.up, self.down

    def _accepted(self, near: tcp.Conn) -> None:
        far, err = tcp.connect(f"127.0.0.1:{self._to}")
        if far is None:
            raise AssertionError(err)
        task.fork(lambda: self._pass(far, near, False))
        self._pass(near, far, True)

    def _pass(self, source: tcp.Conn, sink: tcp.Conn, up: bool) -> None:
        while True:
            first, err = source.read(1)
            if err is not None:
                break
            rest, err = source.read(source.unreadbytes())
            data = first + rest
            if up:
                self.up += len(data)
            else:
                self.down += len(data)
            sink.write(data)
        sink.close()

    def close(self) -> None:
        """Stops listening; connections that it passes on stay until one of their ends closes."""
        self._listener.close()


@contextmanager
def relaying(to: int) -> Iterator[Relay]:
    """A relay for the block."""
    relay = Relay(to)
    try:
        yield relay
    finally:
        relay.close()
