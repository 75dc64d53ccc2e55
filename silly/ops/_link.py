"""The link between a master and each of its workers: a socketpair, on which a packet is
a message, in JSON, with the descriptors that belong to it.

A worker says:

* ``hello``: its handlers of signals are set; ``ready``; ``stopping``: its end has
  begun, by this signal or by 0; ``done``: nothing was left to do;
* ``listen``, with what ``_binding.bind`` takes, and the number of this *lease*;
* ``closed``: the listener of a lease has closed; ``declined``: it has no descriptors
  left for what it should ``adopt``; ``noticed``: answers ``notice``.

The master says:

* ``lent``: answers ``listen``, with the sockets; ``refused``: with the error;
* ``adopt``, with sockets of another slot: accept from these too; ``release``: no more;
* ``notice``: the end comes, and the notice before it has this many ms;
* ``alone``: the master has closed its copies of the sockets.
"""

from __future__ import annotations

import json
import os
import socket
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

PACKET = 64 * 1024
"""The most bytes of a message."""
FDS = 64
"""The most descriptors of a message. A host has fewer addresses."""
AT_ONCE = 300
"""The most messages that the master reads of one worker before it looks at the others.
The link has room for fewer, so what has ended is read to its last word."""

_ROOM = socket.CMSG_SPACE(FDS * array("i").itemsize)


class Message(NamedTuple):
    """What has come. ``fds`` are the receiver's to close. ``whole``: none is missing
    because the receiver had no descriptors left."""

    op: str
    fields: dict[str, Any]
    fds: list[int]
    whole: bool


def new_pair() -> tuple[socket.socket, socket.socket]:
    """Returns the master's end, which doesn't block, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def send(sock: socket.socket, op: str, fds: Sequence[int] = (), **fields: Any) -> bool:
    """Sends a message. Returns False if that can't be done: the other side is gone, or
    has not read for long."""
    data = json.dumps({"op": op, **fields}).encode()
    try:
        if fds:
            socket.send_fds(sock, [data], list(fds))
        else:
            sock.send(data)
    except OSError:
        return False
    return True


def receive(sock: socket.socket) -> Message | None:
    """Returns the next message, or None if the other side is gone. Raises
    BlockingIOError if there is none yet, and ValueError if it can't be read."""
    try:
        # Not ``recv_fds``: it drops the flags, and children would inherit what comes.
        data, parts, flags, _ = sock.recvmsg(PACKET, _ROOM, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    fds = _fds(parts)
    if not data:
        return None
    try:
        fields = json.loads(data)
        op = str(fields.pop("op"))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        close(fds)
        raise ValueError("a message that is none") from None
    return Message(op, fields, fds, not flags & socket.MSG_CTRUNC)


def _fds(parts: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array("i")
    for level, kind, data in parts:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
