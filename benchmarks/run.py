"""What our servers and parsers cost, beside those of others. `make bench` runs this; README.md here says how to read it.

    python benchmarks/run.py                        # every suite: 20 to 25 minutes
    python benchmarks/run.py echo http --runs 9     # some of them, with more turns
    python benchmarks/run.py --quick                # one short turn, to see that all works
    python benchmarks/run.py --plots-only           # the plots, from the results that are kept

Suites: echo, tls, http, transfers, tcp, udp, client, tasks, libraries, start, growth, parsers, postgres. Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from harness import machine, plots, results, tables
from harness.processes import BUILD, HERE, ServerError, raise_open_files
from harness.programs import LoadError, load_program
from harness.servers import Settings
from suites import SUITES

RESULTS = HERE / "results"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; all, if none is named")
    parser.add_argument("--runs", type=int, help="turns of each candidate; each suite has its own number")
    parser.add_argument("--seconds", type=float, default=0.8, help="of each turn under load (0.8)")
    parser.add_argument("--quick", action="store_true", help="one turn of 0.2 s, kept apart in benchmarks/build")
    parser.add_argument("--plots-only", action="store_true", help="measure nothing, draw the plots")
    parser.add_argument("--results", type=Path, help="the directory of the results and plots")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"there is no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    if options.runs is not None and options.runs < 1:
        parser.error("--runs is 1 at least")
    return options


def run_suite(name: str, settings: Settings, about: dict[str, object], file: Path) -> None:
    """Measures a suite, prints its rows one by one, and keeps them."""
    suite = SUITES[name]
    print(f"\n=== {suite.TITLE} ({name}): {settings.runs} turns ===", flush=True)
    rows = []
    begin = time.monotonic()
    for row in suite.rows(settings):
        rows.append(row)
        print("\n" + tables.table(row), flush=True)
    print(f"\n({name}: {time.monotonic() - begin:.0f} s)", flush=True)
    asked = {"title": suite.TITLE, "runs": settings.runs, "seconds": settings.seconds}
    results.merge(file, name, results.to_json(rows, {**about, **asked}))


def main() -> int:
    options = parse()
    directory = options.results or (BUILD / "quick" if options.quick else RESULTS)
    file = directory / "results.json"
    failed = []
    if not options.plots_only:
        try:
            load_program()
        except LoadError as exc:
            print(f"benchmarks: {exc}", file=sys.stderr)
            return 2
        about = machine.describe()
        print(machine.text(about))
        if len(os.sched_getaffinity(0)) < 2:
            print("There is one processor: servers and loads share it, so that latencies and rates mean little.")
        seconds = 0.2 if options.quick else options.seconds
        open_files = raise_open_files()
        with tempfile.TemporaryDirectory() as temporary:
            for name in options.suites or SUITES:
                runs = options.runs or (1 if options.quick else SUITES[name].RUNS)
                settings = Settings(runs, seconds, Path(temporary), open_files, options.quick)
                try:
                    run_suite(name, settings, about, file)
                except (LoadError, ServerError) as exc:
                    print(f"benchmarks: {name} failed, and is not kept: {exc}", file=sys.stderr)
                    failed.append(name)
        print(f"\nKept in {file}")
    drawn, reason = plots.draw(results.read(file), directory)
    for plot in drawn:
        print(f"Drawn: {plot}")
    if reason:
        print(f"No plots: {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
