"""The scenarios of ``silly.process``; see ``blow_scenarios``."""

from __future__ import annotations

from typing import Any

from silly import process
from silly.process import PIPE

from .blow_scenarios import check, done, must, scenario
from .blows import WITHIN, Blows, Cancelled, Job, again


@scenario
def processes(blows: Blows) -> None:
    """A child answers each line, is waited for by two tasks, and is gone after its block, whatever strikes."""

    def talk() -> None:
        child = must(process.start(["sh", "-c", "cat; exit 3"], stdin=PIPE, stdout=PIPE))
        with child:
            for number in range(3):
                line = b"%d\n" % number
                done(child.stdin.write, line)
                check(again(child.stdout.read, "\n", WITHIN) == (line, None))
            waiting = Job(lambda: again(child.wait, WITHIN))
            child.stdin.close()
            check(again(child.wait, WITHIN) == (3, None))
            check(again(waiting.result) == (3, None))

    def leave() -> None:
        child = must(process.start(["sleep", "100"]))
        try:
            with child:
                pass
        except Cancelled:
            check(again(child.wait, WITHIN))  # the loop reaps it
        check(child.status == -9)

    def run() -> Any:
        return again(process.run, ["cat"], b"x" * 70_000)

    Job(talk).result()
    Job(leave).result()
    check(Job(run).result() == ((0, b"x" * 70_000, b""), None))
