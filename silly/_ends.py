"""Which exceptions are ends: of a task, or of the process."""

from __future__ import annotations

from greenlet import GreenletExit

ENDS = (KeyboardInterrupt, SystemExit, GreenletExit)
"""These are no errors: GreenletExit (and what derives from it) ends a task quietly, and
the other two end the process. They pass through wherever the library guards against
what the application's code raises:

    try:
        handler(stream)
    except ENDS:
        raise
    except BaseException:
        logger.error(...)

Anything else that is raised is an error of that code alone, whatever it derives from:
``asyncio.CancelledError`` and the panic of a module in Rust are no Exceptions either.
"""
