"""What the loop waits with: ``select.epoll`` itself on Linux, elsewhere the system's
best selector behind the same interface.

Epoll is not used through ``selectors``: building that module's list of keys and masks
costs as much for each event as receiving its data.
"""

from __future__ import annotations

import os
import select
import selectors
from errno import EBADF, EEXIST, ENOENT
from typing import Protocol

READ = 1
WRITE = 4
"""The loop's event masks are those of epoll."""


class Poller(Protocol):
    """The part of ``select.epoll`` that the loop uses.

    ``poll`` waits ``timeout`` seconds (None: for ever) and returns at most
    ``maxevents`` pairs of descriptor and mask. Bits other than READ and WRITE report an
    error or a hang-up.
    """

    def register(self, fd: int, eventmask: int) -> None: ...
    def modify(self, fd: int, eventmask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]: ...
    def close(self) -> None: ...


class SelectorPoller:
    """A ``Poller`` for systems without epoll. It ignores ``maxevents``. Errors are
    those of epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int) -> None:
        try:
            self._selector.register(fd, _events(eventmask))
        except KeyError:
            raise OSError(EEXIST, os.strerror(EEXIST)) from None

    def modify(self, fd: int, eventmask: int) -> None:
        try:
            self._selector.modify(fd, _events(eventmask))
        except KeyError:
            raise OSError(ENOENT, os.strerror(ENOENT)) from None

    def unregister(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except KeyError:
            raise OSError(ENOENT, os.strerror(ENOENT)) from None

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        # All of them: with a limit the same ones would be left out each time.
        return [(key.fd, _mask(events)) for key, events in self._selector.select(timeout)]

    def close(self) -> None:
        self._selector.close()


class NoPoller:
    """A ``Poller`` that has nothing to wait for. Its ``poll`` raises OSError, as for a
    closed descriptor."""

    def register(self, fd: int, eventmask: int) -> None: ...
    def modify(self, fd: int, eventmask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def close(self) -> None: ...

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        raise OSError(EBADF, os.strerror(EBADF))


def _events(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READ else 0) | (selectors.EVENT_WRITE if mask & WRITE else 0)


def _mask(events: int) -> int:
    return (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0)


def new_poller() -> Poller:
    """Returns the poller for this system."""
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()
