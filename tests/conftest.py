"""What every test shares: nothing may be left behind (``silly.testing.plugin``), and no log line may go unexpected.

Tests run in the main greenlet, which may block; port 0, loopback only, no sleeping to synchronise.
"""

from __future__ import annotations

import gc
import logging
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from .fuzz import TARGETS

# A shell starts what runs in the background with SIGINT ignored, and the programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Helpers' asserts must also run under ``python -O``.
pytest.register_assert_rewrite(
    "tests.helpers", "tests.net.check_stream", "tests.conformance.support", "tests.bad_inputs.support", "tests.ops.crew"
)
pytest.register_assert_rewrite("tests.fuzz.source", "tests.fuzz.messages", *[f"tests.fuzz.{name}" for name in TARGETS])

from silly import _log  # noqa: E402
from silly._core import deadline, ending, scheduler  # noqa: E402

pytest_plugins = ["silly.testing.plugin", "tests.servers.fixtures"]
ending.strict = True


_starved = scheduler.loop.starved


def _counted() -> bool:
    """``loop.starved``, with a look at each connection and each task: what it asks must tell the same."""
    loop = scheduler.loop
    if not scheduler.exiting:
        waking = [handler for handler in loop.handlers if handler.wakes()]
        assert loop.can_wake() == bool(waking), (loop.waking, waking)
        assert all(each.watched == at for at, each in enumerate(loop.waking))
        assert not {id(each) for each in loop.waking} - {id(each) for each in loop.handlers}
        striking = [each for task in (scheduler.main, *scheduler.tasks) for each in task._deadlines or () if not each._over]
        assert deadline.active == len(striking), (deadline.active, striking)
    return _starved()


scheduler.loop.starved = _counted


def pytest_collection_finish() -> None:
    """Keeps the collector off the tests themselves, of which there are 30,000: else each ``gc.collect`` of a test takes a
    second, in which the loop doesn't turn."""
    gc.freeze()


class Logs(logging.Handler):
    """The log lines of a test. ``expect(pattern)`` says that a line is due: the test fails without it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.watchdog = False
        """Whether to keep what the watchdog says. Anybody's test may hold the loop for long where the machine is slow."""
        self.listening = False
        """Whether to keep where listeners say that they listen."""
        self.draining = False
        """Whether to keep what servers that drain say is left."""
        self._expected: list[tuple[str, bool]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            line = f"{record.levelname} {self.format(record)}"
            if (
                (self.watchdog or "held the loop for" not in line)
                and (self.listening or not line.startswith("INFO listening on "))
                and (self.draining or not re.match(r"\w+ https?: \S+ (goes on for|drains|has drained|drained for)\b", line))
            ):
                self.lines.append(line)

    def expect(self, pattern: str) -> None:
        """A line that matches ``pattern`` (searched in "LEVEL text") must come, once or more often."""
        self._expected.append((pattern, True))

    def allow(self, pattern: str) -> None:
        """A line that matches ``pattern`` may come."""
        self._expected.append((pattern, False))

    def count(self) -> int:
        """How many lines came, with those that were held back and counted."""
        return len(self.lines) + sum(int(n) for line in self.lines for n in re.findall(r"\(… (\d+) more lines like it\)", line))

    def problems(self) -> list[str]:
        found = [f"unexpected: {line}" for line in self.lines if not any(re.search(p, line) for p, _ in self._expected)]
        missing = [
            f"missing: {p}" for p, due in self._expected if due and not any(re.search(p, line) for line in self.lines)
        ]
        return found + missing


@pytest.fixture(autouse=True)
def logs() -> Iterator[Logs]:
    """Collects the log lines; the test fails on one that it did not expect."""
    handler = Logs()
    log = logging.getLogger("silly")
    log.addHandler(handler)
    _log._kinds.clear()  # a test's lines are not held back for those of the tests before it
    yield handler
    log.removeHandler(handler)
    problems = handler.problems()
    if problems:
        pytest.fail("log lines:\n" + "\n".join(problems), pytrace=False)


@pytest.fixture
def debugged(logs: Logs) -> Iterator[list[str]]:
    """The lines of level DEBUG, which are for what harmless strangers do."""
    lines: list[str] = []

    class Debug(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.DEBUG:
                lines.append(record.getMessage())

    log = logging.getLogger("silly")
    log.addHandler(handler := Debug())
    log.setLevel(logging.DEBUG)
    yield lines
    log.setLevel(logging.INFO)
    log.removeHandler(handler)


@pytest.fixture(autouse=True)
def silly_nothing_left(logs: Logs, silly_nothing_left: None) -> None:
    """That of the plugin. It ends before ``logs``: what is left may log while it closes."""


@pytest.fixture
def virtual(logs: Logs) -> Iterator[None]:
    """A clock that moves only when nothing else can happen. For tests in which some milliseconds put things in order: on a
    machine that is busy those pass between any two lines."""
    from silly import testing

    logs.allow(r"INFO testing\.clock goes in real time")  # a test may have a thread, and that takes its time
    with testing.clock():
        yield


@pytest.fixture(scope="session")
def watch() -> Iterator[Any]:
    """Looks at each switch of each test."""
    from .switches import CALLS, TABLE, Watch, never_codes  # here: it imports the plugin, and pytest must be the first

    with Watch(never_codes(CALLS, TABLE)) as found:
        yield found


@pytest.fixture(autouse=True)
def switches_as_told(watch: Any) -> Iterator[None]:
    """Fails a test in which a call waited of which docs/tasks.md says that it never does."""
    yield
    if watch.wrong:
        names = ", ".join(sorted(watch.wrong))
        watch.wrong.clear()
        pytest.fail(f"switched to another task, which docs/tasks.md says it never does: {names}", pytrace=False)
