"""The scenario of connections that begin with a header of the PROXY protocol; see ``blow_scenarios``."""

from __future__ import annotations

from typing import Any

from silly.net import tcp

from .blow_scenarios import LIMITS, check, must, scenario
from .blows import Blows, Job, again, done
from .helpers import turn


@scenario
def proxied(blows: Blows) -> None:
    """The task that waits for a header is struck: its connection ends, and the others go on."""
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"
    seen: list[str] = []

    def accept(conn: Any) -> None:
        with conn:
            seen.append(conn.remoteaddr)
            line, _ = again(conn.read, "\n")
            done(conn.write, line or b"")

    def talk() -> None:
        with must(again(tcp.connect, listener.addr, limits=LIMITS)) as conn:
            for piece in (header[:5], header[5:], b"hello\n"):
                done(conn.write, piece)
                conn._stream.flush()
            check(again(conn.read, 6)[0] in (b"hello\n", None))

    with must(tcp.listen("127.0.0.1:0", accept, proxy=True, trusted=["127.0.0.1"], limits=LIMITS)) as listener:
        for job in [Job(talk) for _ in range(3)]:
            job.result()
        turn(2)
    check(set(seen) <= {"192.0.2.1:4711"}, seen)
