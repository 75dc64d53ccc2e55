"""Looking up the names of hosts, users and groups. The system may ask a server for
them, so a thread does it, and only the task that asks waits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, TypeVar

from .._core import scheduler, worker
from .._core.waiting import Waiters
from .._shown import shown
from . import addr as address

_T = TypeVar("_T")

Address = tuple[int, Any]
"""A family, and an address in the form that its sockets take."""
_loop = scheduler.loop


class NoSuchOwner(LookupError):
    """A user or group that this machine does not know."""


def lookup(host: str, port: int, flags: int, what: str, deadline: float | None = None) -> list[Address]:
    """Returns the addresses of a host, the best first, each once. ``flags`` are those
    of ``getaddrinfo`` for a name. An IP address never blocks.

    Raises OSError or UnicodeError if there is none, and what ``ask`` raises.
    """
    kind = address.iptype(host)
    if kind == 4:
        return [(socket.AF_INET, (host, port))]
    host.encode("idna")
    query = (host, port, 0, socket.SOCK_STREAM, 0)
    if kind == 6:  # only its zone is looked up, and no name server is asked
        found = socket.getaddrinfo(*query, socket.AI_NUMERICHOST)
    else:
        found = ask(socket.getaddrinfo, (*query, flags), what, deadline)
    return list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))


def owner_ids(owner: str) -> tuple[int, int]:
    """Returns the numbers of ``user``, ``user:group`` or ``:group``; -1 for what is
    missing. A number that is not a name stands for itself, as in ``chown``.

    Raises NoSuchOwner, and what ``ask`` raises.
    """
    return ask(_owner_ids, (owner,), f"the look-up of {owner}")


def _owner_ids(owner: str) -> tuple[int, int]:
    import grp  # Unix alone has these
    import pwd

    user, _, group = owner.partition(":")
    return (
        _number("user", user, lambda name: pwd.getpwnam(name).pw_uid),
        _number("group", group, lambda name: grp.getgrnam(name).gr_gid),
    )


def _number(kind: str, name: str, find: Callable[[str], int]) -> int:
    if not name:
        return -1
    try:
        return find(name)
    except KeyError:
        if name.isascii() and name.isdigit() and len(name) <= 10 and int(name) < 2**32 - 1:
            return int(name)
        raise NoSuchOwner(f"there is no {kind} {shown(name)}") from None


def ask(func: Callable[..., _T], args: tuple[Any, ...], what: str, deadline: float | None = None) -> _T:
    """Returns ``func(*args)``, which a thread computes while the current task waits.
    ``what`` says in reports what the task waits for.

    Raises what ``func`` raises, TimeoutError at ``deadline`` (of ``time.monotonic()``),
    and what ``Waiters.wait`` raises.
    """
    waiting: Waiters[tuple[Any, BaseException | None]] = Waiters()

    def done(result: Any, exc: BaseException | None) -> None:
        waiting.wake_one((result, exc))

    def timed_out(_: None) -> None:
        waiting.wake_one((None, TimeoutError()))

    job = worker.lookups.submit(_loop, func, args, done)
    timer = None if deadline is None else _loop.timers.add(deadline, timed_out, internal=True)
    result: _T
    try:
        result, exc = waiting.wait(what)
    finally:
        job.give_up()  # if it is still queued, it never runs
        if timer is not None:
            _loop.timers.cancel(timer)
    if exc is not None:
        try:
            raise exc
        finally:
            del exc  # its traceback refers to this frame
    return result
