"""The scenarios of reading what is there; see ``blow_scenarios``."""

from __future__ import annotations

from typing import Any

from silly.net import tcp

from .blow_scenarios import BLOB, LIMITS, check, must, scenario
from .blows import Blows, Job, again, done


@scenario
def tcp_relay(blows: Blows) -> None:
    """In pieces of which many are there, or none yet."""

    def relay(conn: Any) -> None:
        with conn:
            while (piece := again(conn.readsome, 100)[0]) is not None:
                done(conn.write, piece)

    def talk() -> None:
        with must(again(tcp.connect, listener.addr, limits=LIMITS)) as conn:
            for at in range(0, 20_000, 500):
                done(conn.write, BLOB[at : at + 500])
            check(again(conn.read, 20_000) == (BLOB[:20_000], None))

    with must(tcp.listen("127.0.0.1:0", relay, limits=LIMITS)) as listener:
        Job(talk).result()
