"""Signals."""

import signal as std

import silly
from silly import signal


def stop(name: str) -> None:
    print(name)
    silly.exit()


def ignore() -> None:
    pass


before = signal("SIGTERM", stop)
if before is not None:
    before("SIGTERM")
signal(std.SIGINT, before)
silly.signal("SIGHUP", None)
signal("SIGHUP", lambda name: print(name.lower()))
signal("SIGTERM", ignore)  # wrong: arg-type, reportArgumentType
signal("SIGTERM")  # wrong: call-arg, reportCallIssue
silly.run()
