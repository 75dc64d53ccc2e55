"""For tests of programs that use silly: a clock that jumps, tasks in a random order,
connections without a port.

    with testing.clock() as clock:
        time.sleep(5000)
        clock.elapsed                   # -> 5000

    client, server = testing.pair()
    client.write("hello\\n")
    server.read("\\n")                  # -> (b"hello\\n", None)

``silly.testing.plugin`` is a plugin of pytest: it fails a test that leaves a task, a
timer, a connection or a file behind. Nothing here needs pytest. The guide is
``docs/testing.md``.
"""

from __future__ import annotations

from ._clock import Clock, clock
from ._pairs import pair
from ._served import HandlerClient, http, websocket
from ._shuffle import Shuffled, shuffled

__all__ = ["Clock", "HandlerClient", "Shuffled", "clock", "http", "pair", "shuffled", "websocket"]
