"""What load balancers and supervisors ask a server: see ``Router.health``."""

from __future__ import annotations

from collections.abc import Callable

from ..._core import ending, scheduler
from ..._core.deadline import Deadline
from ..._ends import ENDS
from ..._log import http as logger
from ..._shown import cut, name_of, said
from ._drain import unready
from .h1 import ServerStream

CHECK = 5000
"""The most ms of a check: a load balancer has given up by then."""

Check = Callable[[], object]

_NOT_STORED = {"cache-control": "no-store"}


def alive(stream: ServerStream) -> None:
    """Answers 200: the loop turns."""
    stream.answer(200, "ok", _NOT_STORED)


class Ready:
    """Answers 200 if the process can take requests, else 503 and why. ``check`` is the
    application's, or None."""

    def __init__(self, check: Check | None) -> None:
        self._check = check

    def __call__(self, stream: ServerStream) -> None:
        why = "draining" if ending.begun() or unready else self._wrong()
        stream.answer(503 if why else 200, why or "ok", _NOT_STORED)

    def _wrong(self) -> str | None:
        """Returns what the check says is wrong, or None."""
        if self._check is None:
            return None
        try:
            with Deadline(CHECK):
                return _error_of(self._check())
        except ENDS:
            raise
        except BaseException as exc:
            if scheduler.in_child:
                raise
            text = f"http: the check {name_of(self._check)} has raised {type(exc).__name__}: {cut(said(exc))}"
            logger.limited("http check", text, logger.ERROR)
            return "the check failed"


def _error_of(found: object) -> str | None:
    """Returns the error in what a check returned, or None: True and None are good, and
    a pair without an error; False and a text are not."""
    if isinstance(found, tuple) and len(found) == 2:
        found = found[1] if found[1] is not None else True
    if isinstance(found, str) and found:
        return cut(found)
    return None if found is None or found else "the check failed"
