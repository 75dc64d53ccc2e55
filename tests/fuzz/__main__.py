"""A small coverage-guided fuzzer: ``python -m tests.fuzz TARGET [--seconds 60] [--seed N] [--keep]``.

Inputs that reach a new place in ``silly._wire`` are kept, and mutated further. The first that fails, or takes longer than
10 s, is written to ``tests/fuzz/findings``, and the exit status is 1. ``--keep`` puts what was found into the corpus, and
leaves there only what its coverage needs.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import sys
import time
import traceback
from importlib import import_module
from typing import Any

from . import CORPUS, FINDINGS, TARGETS, instrument

LONGEST = 2048
"""Bytes of an input."""
SLOW = 10
"""Seconds that one input may take."""
INTERESTING = (0, 1, 2, 0x7D, 0x7E, 0x7F, 0x80, 0xFE, 0xFF)


class Fuzzer:
    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.target: Any = import_module(f"tests.fuzz.{name}")
        self.random = random.Random(seed)
        self.seen: set[int] = set()
        self.pool: list[bytes] = []
        self.paths: dict[bytes, frozenset[int]] = {}
        self.runs = 0

    def start(self) -> None:
        """Runs the seeds and the corpus."""
        for data in self.target.SEEDS:
            self.run(data)
        for path in sorted((CORPUS / self.name).glob("*")):
            self.run(path.read_bytes())

    def run(self, data: bytes) -> bool:
        """Whether the input reaches something new."""
        self.runs += 1
        instrument.reset()
        signal.alarm(SLOW)
        try:
            self.target.run(data)
        except BaseException as exc:
            signal.alarm(0)
            if not isinstance(exc, KeyboardInterrupt):
                self.report(data)
            raise
        signal.alarm(0)
        path = instrument.features()
        if path <= self.seen:
            return False
        self.seen |= path
        self.pool.append(data)
        self.paths[data] = path
        return True

    def report(self, data: bytes) -> None:
        FINDINGS.mkdir(exist_ok=True)
        path = FINDINGS / f"{self.name}-{digest(data)}"
        path.write_bytes(data)
        traceback.print_exc()
        print(f"{self.name}: input of {len(data)} bytes, {data.hex()}\nwritten to {path}", flush=True)

    def fuzz(self, seconds: float) -> None:
        began = said = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            if now >= said + 10:
                said = now
                self.say(now - began)
            # The newest are where something is still to be found.
            newest = self.random.random() < 0.5
            parent = self.random.choice(self.pool[-20:] if newest else self.pool)
            self.run(self.mutated(parent))
        self.say(seconds)

    def say(self, seconds: float) -> None:
        rate = self.runs / seconds if seconds else 0
        places = len({feature >> 6 for feature in self.seen})
        print(
            f"{self.name}: {seconds:.0f} s, {self.runs} executions ({rate:.0f}/s), {len(self.pool)} paths, "
            f"{places} of {len(instrument.hits)} places",
            flush=True,
        )

    def mutated(self, parent: bytes) -> bytes:
        rng = self.random
        data = bytearray(parent)
        for _ in range(1 << rng.randrange(5)):
            at = rng.randrange(len(data) + 1)
            span = rng.randrange(1, 2 << rng.randrange(8))
            match rng.randrange(8):
                case 0:
                    del data[at : at + span]
                case 1:
                    data[at:at] = data[at : at + span] * rng.randrange(1, 5)
                case 2:
                    data[at:at] = rng.choice(self.target.TOKENS)
                case 3:
                    token = rng.choice(self.target.TOKENS)
                    data[at : at + len(token)] = token
                case 4:
                    other = rng.choice(self.pool)
                    start = rng.randrange(len(other) + 1)
                    data[at : at + rng.choice((0, span))] = other[start : start + span]
                case 5:
                    data[at:at] = rng.randbytes(span % 9)
                case 6 if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
                case _:
                    data[at : at + 1] = bytes((rng.choice(INTERESTING) if rng.random() < 0.5 else rng.randrange(256),))
        return bytes(data[:LONGEST])

    def keep(self) -> None:
        """Writes the corpus anew: the shortest inputs that together reach everything, and every finding."""
        folder = CORPUS / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*"):
            if not path.name.startswith("finding-"):
                path.unlink()
        covered: set[int] = set()
        # Here once, twice and more often will do, so that the corpus stays small.
        left = {data: {place & ~63 | min(place & 63, 3) for place in path} for data, path in self.paths.items()}
        while left:
            best = max(left, key=lambda data: (len(left[data] - covered) / (40 + len(data)), data))
            if not left[best] - covered:
                break
            covered |= left.pop(best)
            (folder / digest(best)).write_bytes(best)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _too_slow(*args: object) -> None:
    raise TimeoutError(f"one input took more than {SLOW} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the mutations; random when not given")
    parser.add_argument("--keep", action="store_true", help="write what was found to the corpus")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"{options.target}: seed {seed}", flush=True)
    instrument.install()
    signal.signal(signal.SIGALRM, _too_slow)
    fuzzer = Fuzzer(options.target, seed)
    try:
        fuzzer.start()
        fuzzer.fuzz(options.seconds)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        # The fuzzer has said what and where.
        return 1
    if options.keep:
        fuzzer.keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
