"""What the third-party scripts in Python share: commands in, results out. Nothing of silly is imported here."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

WITHIN = 15
"""Seconds for a scenario."""


class Mismatch(Exception):
    """The other side did what it should not."""


def short(value: object) -> str:
    """``repr``, cut."""
    text = repr(value)
    return text if len(text) < 300 else f"{text[:140]} ... {text[-140:]} ({len(text)} characters)"


def equal(got: object, want: object, what: str) -> None:
    """``got`` must be ``want``, in value and type."""
    if got != want or type(got) is not type(want):
        raise Mismatch(f"{what}: got {short(got)}, expected {short(want)}")


def ok(tag: str, result: object = None) -> None:
    """Tells the test that something went well."""
    print(f"ok {tag} {json.dumps(result)}", flush=True)


def clients(*functions: Callable[..., Awaitable[Any]]) -> None:
    """Runs the scenarios that standard input asks for, until its end; exits with 1 at the first that fails."""
    scenarios = {function.__name__: function for function in functions}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            result = asyncio.run(asyncio.wait_for(scenarios[command["name"]](**command["args"]), WITHIN))
        except Exception:
            print(f"{command['tag']} failed:\n{traceback.format_exc()}", flush=True)
            sys.exit(1)
        ok(command["tag"], result)


def failed(what: str) -> None:
    """In a server: says what the running exception is, and ends the process."""
    print(f"{what} failed:\n{traceback.format_exc()}", flush=True)
    os._exit(1)


def end_with_stdin() -> None:
    """Ends this process when its standard input ends, so that it never outlives the test."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
