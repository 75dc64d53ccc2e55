"""What a restart loses under load: ours, and others by their own best way. `make restart-bench` runs this.

    python benchmarks/restart_under_load.py                             # all: about 20 minutes
    python benchmarks/restart_under_load.py sighup --servers silly      # one scenario, one server
    python benchmarks/restart_under_load.py --quick                     # everything once, only to see that it works

README.md here says how to read it. What the servers wrote is in build/restart. The status is 1 if ours lost something in an
orderly restart. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from harness import machine
from harness.processes import BUILD, HERE, ServerError, raise_open_files
from restart.scenarios import SCENARIOS, Plan, Scenario, run
from restart.service import OURS, PEERS, SPREAD, Candidate, installed
from restart.table import faults, table

LATE = 100
"""Milliseconds: a load that is later than that has told the truth of nothing but itself."""


def parse() -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join(SCENARIOS)}; all, if none is named")
    parser.add_argument("--servers", nargs="+", help="only those that have one of these words in their name")
    parser.add_argument("--requests", type=float, default=plan.requests, help=f"a second ({plan.requests})")
    parser.add_argument("--sockets", type=int, default=plan.sockets, help=f"WebSockets ({plan.sockets})")
    parser.add_argument("--times", type=int, default=plan.times, help=f"how often a thing is done ({plan.times})")
    parser.add_argument("--terms", type=int, default=plan.terms, help=f"SIGTERMs to workers ({plan.terms})")
    parser.add_argument("--quick", action="store_true", help="everything once, kept apart in benchmarks/build")
    parser.add_argument("--results", type=Path, help="the directory of restart.json")
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return options


def candidates(scenario: Scenario, words: list[str] | None) -> list[Candidate]:
    """Who takes part. To spread the closes is an option of ours, which is shown where all workers are replaced."""
    spread = [SPREAD] if scenario.name == "sighup" else []
    found = [each for each in (OURS, *spread, *PEERS) if each.inherits or not scenario.inherited]
    return [each for each in found if not words or any(word in each.name for word in words)]


def measure(scenario: Scenario, candidate: Candidate, plan: Plan) -> dict[str, Any]:
    if not installed(candidate):
        return {"error": "is not installed"}
    directory = BUILD / "restart" / f"{scenario.name}-{candidate.name.replace(', ', '-')}"
    try:
        return run(candidate, scenario, plan, directory)
    except ServerError as exc:
        first, *others = str(exc).strip().splitlines()
        return {"error": " … ".join([first, *others[-1:]]), "details": str(exc)}


def main() -> int:
    options = parse()
    plan = Plan(options.times, options.terms, requests=options.requests, sockets=options.sockets)
    if options.quick:
        plan = Plan(times=1, terms=4, requests=options.requests, sockets=min(options.sockets, 100), quiet=1)
    about = machine.describe()
    print(machine.text(about))
    if len(os.sched_getaffinity(0)) < 2:
        print("There is one processor: servers and load share it, so that times mean little.")
    raise_open_files()
    results: dict[str, dict[str, Any]] = {}
    bad = []
    for name in options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        results[name] = {}
        for candidate in candidates(scenario, options.servers):
            result = results[name][candidate.name] = measure(scenario, candidate, plan)
            if "error" in result:
                print(f"{scenario.title}: {candidate.name}: {result['error']}", file=sys.stderr)
                bad += [f"{name}: {candidate.name}: {result['error']}"] if candidate.module == OURS.module else []
                continue
            if result["event"]["late_ms"] > LATE:
                print(f"{scenario.title}: {candidate.name}: the load was {result['event']['late_ms']} ms late", file=sys.stderr)
            found = faults(scenario, result) if scenario.orderly else []
            if candidate.module == OURS.module:
                found += [f"it ended with status {status}" for status in result["statuses"] if status]
                bad += [f"{name}: {candidate.name}: {fault}" for fault in found]
            outcome = "; ".join(found) or "nothing lost" if scenario.orderly else "done"
            print(f"{scenario.title}: {candidate.name}: {outcome}", flush=True)
    print(table(results))
    directory = options.results or (BUILD / "quick" if options.quick else HERE / "results")
    directory.mkdir(parents=True, exist_ok=True)
    kept = {"about": about, "plan": vars(plan), "scenarios": results}
    (directory / "restart.json").write_text(json.dumps(kept, indent=1) + "\n")
    for fault in bad:
        print(f"restart: {fault}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
