"""What large HTTP bodies cost the server, over TCP and over TLS."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from harness.candidates import Candidate, ours, peer, take_turns
from harness.certificate import make_certificate
from harness.load import connected
from harness.processes import HERE, Server
from harness.programs import LoadError
from harness.results import Row
from harness.servers import Settings

TITLE = "HTTP transfers"
RUNS = 3

MIB = 2**20
SIZE, QUICK_SIZE = 100 * MIB, 10 * MIB
UNIT = "CPU s a GiB"


@dataclass(frozen=True)
class Transfer:
    """``kind`` and ``path`` are those of the load; ``{size}`` becomes the number of bytes."""

    name: str
    kind: str
    path: str


UPLOAD = Transfer("upload with its length, in pieces", "upload", "/pieces")
READALL = Transfer("upload with its length, readall", "upload", "/readall")
CHUNKED = Transfer("upload, chunked, in pieces", "chunked", "/pieces")
WRITE = Transfer("download, written in pieces", "download", "/write?size={size}")
BYTES = Transfer("download of one bytes", "download", "/bytes?size={size}")
FILE = Transfer("download of a file", "download", "/file")
PLAIN = (UPLOAD, READALL, CHUNKED, WRITE, BYTES, FILE)
TLS = (UPLOAD, WRITE, FILE)


def candidates(transfer: Transfer, file: str, *pair: str) -> list[Candidate]:
    """Those that can do it; ``pair``: the files of a certificate and its key, for TLS."""
    options = [f"--{name}={value}" for name, value in zip(("cert", "key"), pair, strict=False)]
    everybody = [
        ours("http_transfers.py", f"--file={file}", *options),
        peer("uvicorn+uvloop+httptools", "uvicorn_transfers.py", "uvicorn uvloop httptools", *pair),
        peer("aiohttp+uvloop", "aiohttp_transfers.py", "aiohttp uvloop", file, *pair),
    ]
    return [each for each in everybody if transfer is not FILE or "uvicorn" not in each.modules]


def transfer_row(transfer: Transfer, settings: Settings, file: str, *pair: str) -> Row:
    """What a transfer costs each candidate."""
    size = QUICK_SIZE if settings.quick else SIZE
    asked = (transfer.kind, transfer.path.replace("{size}", str(size)), str(size), *["--tls"][: len(pair)])
    rates: dict[str, list[float]] = {}

    def one(candidate: Candidate) -> float:
        load = (sys.executable, str(HERE / "load" / "transfers.py"))
        with Server(candidate.command, candidate.env) as server, connected([*load, server.port, *asked], 0) as running:
            before = server.cpu_seconds()
            seconds = running.run()["seconds"]
            cpu = server.cpu_seconds() - before
        rates.setdefault(candidate.name, []).append(size / seconds / 1e6)
        return cpu / size * 2**30

    figures, missing = take_turns(candidates(transfer, file, *pair), one, settings.runs)
    row = Row(_name(transfer, bool(pair)), UNIT, figures, missing=missing)
    row.more = {name: {"MB a second": statistics.median(rates[name])} for name in figures}
    return row


def _name(transfer: Transfer, secure: bool) -> str:
    return transfer.name + (", TLS" if secure else "")


def rows(settings: Settings) -> Iterator[Row]:
    """Measures, row by row."""
    file = settings.directory / "file"
    file.write_bytes(bytes(QUICK_SIZE if settings.quick else SIZE))
    for transfer in PLAIN:
        yield transfer_row(transfer, settings, str(file))
    try:
        pair = make_certificate(settings.directory)
    except LoadError as exc:
        yield from (Row(_name(transfer, True), UNIT, {}, missing={"everybody": str(exc)}) for transfer in TLS)
        return
    for transfer in TLS:
        yield transfer_row(transfer, settings, str(file), *pair)
