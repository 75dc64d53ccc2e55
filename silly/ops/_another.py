"""Another process of the program: its command line, what it finds in its environment,
and how it has ended."""

from __future__ import annotations

import signal
import sys

from .options import Options, arguments

DAEMON_PIPE = "SILLY_DAEMON_PIPE"
"""The variable that names the descriptor to which the program writes when it is ready;
see ``daemon.py``."""
RELOAD_PIPE = "SILLY_RELOAD_PIPE"
"""The same for the files that it has imported; see ``reload.py``."""
LINK = "SILLY_WORKER_LINK"
"""The variable that names a worker's descriptor and number, ``5:2``; see ``_link.py``.
"""


def command(options: Options, args: list[str]) -> list[str]:
    """Returns the command line of another process like this one, with other options.
    ``args`` are the script and its arguments."""
    # What stood before the launcher's own arguments: the interpreter and its options.
    python = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    return [sys.executable, *python, *arguments(options), *args]


def in_words(code: int) -> str:
    """Says how a process has ended. ``code`` is its exit status, or -N if signal N
    ended it."""
    if code >= 0:
        return f"has ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # most of the real-time signals have no name
        return f"was ended by signal {-code}"


def status_of(code: int) -> int:
    """Returns the status with which to end as that process did: 128 + N for -N."""
    return 128 - code if code < 0 else code
