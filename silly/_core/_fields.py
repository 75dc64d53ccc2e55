"""The fields of a task and of the loop that a switch reads and sets, in pure Python.
``_speedups.c`` has the same in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenlet import greenlet

    from .deadline import Deadline
    from .tasks import Blow


class TaskFields:
    """The base of ``Task``, which sets them."""

    __slots__ = ("_blow", "_greenlet", "_over", "_status", "_value", "_what")

    _blow: Blow | None
    """A cancel that has not struck yet."""
    _greenlet: greenlet | None
    _over: Deadline | None
    """The deadline that has struck; None if none has."""
    _status: str | None
    _value: Any
    """What ``wake`` was given, until the task runs and takes it. When the task has
    finished: what its function has returned."""
    _what: object
    """What it waits on; None while it runs."""


class LoopFields:
    """The base of ``Loop``, which sets them."""

    __slots__ = ("current", "deferred", "left", "no_switch", "to_hub")

    current: Any
    """The task that runs now. It and ``left`` are here for speed: setting an attribute
    of a slot is several times faster than setting a global."""
    deferred: list[Any]
    """Tasks that become ready in the next turn, after the I/O that is pending now."""
    left: int
    """How many more tasks may run in the present slice; 0 outside a slice."""
    no_switch: bool
    """Whether the current task is in a block of ``task.no_switch``."""
    to_hub: Callable[[], Any]
    """Switches to the loop's greenlet."""
