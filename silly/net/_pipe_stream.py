"""The byte stream of a pipe or of a pseudo-terminal: a ``Stream`` whose descriptor is
no socket. ``silly.process`` is its user.

It differs from a socket's in these points:

* A pipe has one direction (``ways``). A terminal has both.
* The other end is a program that may compute for as long as it likes. So no output is
  given up because nobody takes it: neither the limits ``write_timeout`` and
  ``write_rate`` nor ``linger`` count. A part of it followed by an end would be taken
  for the whole.
* When the other end is closed nothing can come any more, in either direction. The
  descriptor of a pipe is then closed at once.
"""

from __future__ import annotations

import io
import os
from errno import EIO
from typing import Any

from .. import errno
from .._core.loop import READ, WRITE
from .._wire.limits import Limits
from ._gathered import Gathered
from ._output import IOV
from ._stream import RECV, Stream

_BOTH = READ | WRITE


class PipeStream(Stream):
    """See the module's header."""

    plain = False
    word = "process"

    __slots__ = ("ways",)

    def __init__(self, file: io.FileIO, ways: int, limits: Limits) -> None:
        """``file`` holds the descriptor, in whatever mode. ``ways`` is READ, WRITE or
        both. The caller sets ``remoteaddr``, which is what texts call it: ``"stdin of
        sort (4711)"``."""
        os.set_blocking(file.fileno(), False)
        sock: Any = file
        super().__init__(sock, "", limits)
        self.ways = ways
        if not ways & READ:
            self._eof = True
            self._interest()

    # What ``Gathered`` has in C is for sockets.
    on_event = Gathered.on_event
    flush = Gathered.flush

    # ---- one direction ---------------------------------------------------------------

    def check_way(self, way: int) -> None:
        """Raises RuntimeError if data does not go that way here."""
        if not self.ways & way:
            here, other = ("written to", "read from") if way == READ else ("read from", "written to")
            raise RuntimeError(f"{self} is only {here}, and can't be {other}")

    def fill(self, need: int, deadline: float | None = None, recv: int = RECV) -> str | None:
        self.check_way(READ)
        return super().fill(need, deadline, recv)

    def check_no_reader(self) -> None:
        self.check_way(READ)
        super().check_no_reader()

    def _admit(self, waits: bool = True) -> str | None:
        self.check_way(WRITE)
        return super()._admit(waits)

    def closewrite(self) -> str | None:
        self.check_way(WRITE)
        if self.ways == _BOTH:
            raise RuntimeError(f"{self}: a terminal can't be closed in one direction; '\\x04' is the key that ends the input")
        return self.close()

    # ---- what the descriptor does ----------------------------------------------------

    def _other_event(self, mask: int) -> None:
        if mask & READ and not self._events & READ and self.sock is not None:
            # Only a hang-up is reported unasked. A terminal goes on to refuse output as
            # if it were full. What has come and was not read stays.
            self._write_failed(errno.PIPE)
        else:
            super()._other_event(mask)

    def _receive_failed(self, exc: OSError) -> None:
        if exc.errno == EIO:  # so a terminal ends that no program has open any more
            self._ended()
        else:
            super()._receive_failed(exc)

    def _ended(self) -> None:
        self._eof = True
        if self.err is None:
            self.err = errno.EOF
        if self.werr is None:
            self.werr = errno.PIPE
        self._drop_output()
        if self.closed or self.ways != _BOTH:
            self._release()
        else:
            # The program may have closed its terminal before it ends. Closing our end
            # would hang up, and kill it with SIGHUP.
            self._unblock()
        self._wake_all()

    def _transmit(self) -> None:
        out = self._out
        while out:
            try:
                sent = os.writev(self.fd, out[:IOV])
            except BlockingIOError:
                self._block()
                return
            except OSError as exc:
                self._write_failed(errno.PIPE if exc.errno == EIO else errno.from_oserror(exc))
                return
            self._accepted += sent
            self._sent(sent)
        if self._blocked or self.closed or self._writers is not None:
            self._all_sent()

    def _look_later(self) -> None:
        """The other end may take as long as it likes."""

    def close(self, await_end: bool = False) -> str | None:
        err = super().close()
        self.disarm()  # no ``linger``
        return err

    def _written(self) -> bool:
        """Nothing that comes could destroy what was written."""
        return False

    def __repr__(self) -> str:
        return self.remoteaddr
