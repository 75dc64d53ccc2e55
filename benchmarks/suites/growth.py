"""How costs grow with the number of connections: of a message, of a broadcast, of memory, and of a client's round trip."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from harness.candidates import OURS, Candidate, ours, peer, take_turns
from harness.certificate import make_certificate
from harness.load import Load, command_of, connected
from harness.processes import HERE, Server
from harness.programs import LoadError, tls_load_program
from harness.results import Row
from harness.scripts import script_rows
from harness.servers import Settings, load_row

from . import tls

TITLE = "Growth"
RUNS = 2

ECHO = [
    ours("ws_echo.py"),
    peer("picows+uvloop", "picows_echo.py", "picows uvloop"),
    peer("websockets+uvloop", "websockets_echo.py", "websockets uvloop"),
]
BROADCAST = [
    ours("ws_broadcast.py"),
    peer("picows+uvloop", "picows_broadcast.py", "picows uvloop"),
    peer("websockets+uvloop", "websockets_broadcast.py", "websockets uvloop"),
]
COUNTS = (1, 10, 100, 1000, 10_000)
MEMORY = (2000, 10_000)
MEMORY_UNIT = "KiB each"
SECURE_MEMORY = 2000
CLIENT = 4000
ACTIVE = "active connections"
IDLE = "idle connections beside 64 active ones"
RECEIVERS = "receivers of a broadcast"
SPARE = 200
"""Files that a process has open beside its connections, at most."""


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    most = 1000 if settings.quick else settings.open_files - SPARE
    counts = sorted({min(count, most) for count in COUNTS})
    note = f" (no more files may be open than {settings.open_files})" if COUNTS[-1] > most and not settings.quick else ""
    for count in counts:
        load = Load(name=f"{count:,} active connections{note * (count == most)}", mode="text", connections=count)
        yield load_row(load, ECHO, settings, group=ACTIVE, at=count)
    most_idle = most - 64
    for count in sorted({0, *(min(count, most_idle) for count in COUNTS[1:])}):
        name = f"64 active connections beside {count:,} idle ones{note * (count == most_idle)}"
        load = Load(name=name, mode="text", connections=64, idle=count)
        yield load_row(load, ECHO, settings, group=IDLE, at=count)
    for count in counts:
        load = Load(name=f"a broadcast to {count:,}{note * (count == most)}", mode="broadcast", connections=count)
        yield load_row(load, BROADCAST, settings, "CPU µs a receiver", group=RECEIVERS, at=count)
    for count in sorted({min(count, most - 1) for count in MEMORY}):
        name = f"{count:,} idle WebSockets{note * (count == most - 1)}"
        yield memory_row(Load(name=name, mode="text", idle=count), ECHO, settings)
    yield secure_memory_row(min(SECURE_MEMORY, most - 1), settings)
    # What our client waits beside; the other libraries have no loop that asks whether anything can still happen.
    script = Candidate(OURS, (sys.executable, str(HERE / "micro" / "waits_silly.py"), str(min(CLIENT, most - 1))))
    yield from script_rows([script], settings.runs, "CPU ns")


def secure_memory_row(count: int, settings: Settings) -> Row:
    """The same over TLS."""
    load = Load(name=f"{count:,} idle WebSockets over TLS", mode="text", idle=count, tls=True)
    try:
        tls_load_program()
        pair = make_certificate(settings.directory)
    except LoadError as exc:
        return Row(load.name, MEMORY_UNIT, {}, missing={"everybody": str(exc)}, group="memory", at=count)
    return memory_row(load, tls.few(*pair), settings)


def memory_row(load: Load, candidates: Sequence[Candidate], settings: Settings) -> Row:
    """KiB that each of the idle, upgraded WebSockets of ``load`` adds to the server's resident memory."""
    count = load.idle

    def one(candidate: Candidate) -> float:
        warm = Load(name="warm", mode="text", tls=load.tls)
        with Server(candidate.command, candidate.env) as server:
            with connected(command_of(warm, server.port, 0.1), 0.1):
                before = server.memory("VmRSS")
            with connected(command_of(load, server.port, 0.1), 0.1):
                time.sleep(0.3)  # what follows a handshake may come a little later
                return (server.memory("VmRSS") - before) / count

    figures, missing = take_turns(candidates, one, settings.runs)
    return Row(load.name, MEMORY_UNIT, figures, missing=missing, group="memory", at=count)
