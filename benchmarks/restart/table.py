"""The results as a table in Markdown, and what must not be."""

from __future__ import annotations

from typing import Any

from .scenarios import SCENARIOS, Scenario

HEADS = (
    *("server", "requests", "lost", "retried", "begun", "503"),
    *("p99 ms before", "p99 ms", "longest ms"),
    *("WebSockets: closed", "cut", "lost", "back ms", "most in 100 ms"),
)
ORDERLY = ("1001", "1012")


def losses(scenario: Scenario, counts: dict[str, int]) -> int:
    """How many were lost. Connections are refused when nobody is there any more."""
    return sum(count for reason, count in counts.items() if not (scenario.ends and reason == "refused"))


def faults(scenario: Scenario, result: dict[str, Any]) -> list[str]:
    """What an orderly restart must not do, but did."""
    event = result["event"]
    counts = {
        "requests were lost": losses(scenario, event["lost"]),
        "requests were begun, and not answered": event["begun"],
        "WebSockets were lost in the handshake or had a wrong echo": losses(scenario, event["ws_lost"]),
        "WebSockets were cut": sum(count for code, count in event["closed"].items() if code not in ORDERLY),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _cells(name: str, scenario: Scenario, result: dict[str, Any]) -> list[str]:
    quiet, event = result["quiet"], result["event"]
    ms = event["ms"] or {"p99": 0, "max": 0}
    cells = [name, event["requests"], losses(scenario, event["lost"]), event["retried"], event["begun"], event["busy"]]
    cells += [f"{quiet['ms']['p99']:.0f}", f"{ms['p99']:.0f}", f"{ms['max']:.0f}"]
    if not quiet["echoes"]:
        return [*map(str, cells), *["-"] * 5]
    closed = sum(count for code, count in event["closed"].items() if code in ORDERLY)
    cells += [closed, sum(event["closed"].values()) - closed, losses(scenario, event["ws_lost"])]
    cells += [f"{event['reconnect_ms'].get('p99', 0):.0f}", event["most_in_100_ms"]]
    return list(map(str, cells))


def table(results: dict[str, dict[str, Any]]) -> str:
    """``results``: by scenario, then by server; an error where there is no result."""
    lines = []
    for name, servers in results.items():
        scenario = SCENARIOS[name]
        lines += ["", f"**{scenario.title[0].upper()}{scenario.title[1:]}**", ""]
        lines += [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
        for server, result in servers.items():
            cells = [server, result["error"]] if "error" in result else _cells(server, scenario, result)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
