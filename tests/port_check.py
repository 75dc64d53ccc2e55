"""Compares docs/porting/ with a checkout of upstream: ``make port-check UPSTREAM=directory``.

Prints the calls that upstream's pages make and our pages don't, and every three successive lines of
upstream's pages that stand in our pages too: those must be none, since the programs there are ours.
(``websocket.md`` has the five examples of the page that this project started from; its lines are not
compared.) The status is 1 if anything was found, 2 if the directory is no checkout of upstream.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

OURS = Path(__file__).resolve().parent.parent / "docs/porting"
THEIRS = "docs/src/en/reference"
PAGES = [
    *("net/http.md", "net/tls.md", "net/udp.md", "net/websocket.md", "signal.md", "hive.md"),
    *("sync/channel.md", "sync/mutex.md", "sync/singleflight.md", "sync/waitgroup.md"),
]
"""The pages of upstream's that have a page of the same name here."""
MODULES = "|".join(Path(page).stem for page in PAGES if page != "signal.md")
CALL = re.compile(rf"\b(?:(?P<module>{MODULES})\.|\w+:|(?=signal\())(?P<name>[a-z]+)(?=\s*[({{\"\[])")
"""A call of a module, of a method, or of ``signal``, which is a function."""
ELSEWHERE = frozenset(["find", "format", "gmatch", "lower", "sub", "upper", "insert", "concat"])
"""Methods of strings, which these pages are not about."""


def calls(page: str) -> set[str]:
    """The calls in the Lua of a page, and in the headings that name one: ``"http.get"``, ``":read"``."""
    lua = re.findall(r"```lua[^\n]*\n(.*?)```", page, re.DOTALL)
    found = CALL.finditer("\n".join([*lua, *re.findall(r"^### (.+\(.*)$", page, re.MULTILINE)]))
    return {f"{match['module'] or ''}{'.' if match['module'] else ':'}{match['name']}" for match in found} - {
        f":{name}" for name in ELSEWHERE
    }


def runs(page: str) -> set[tuple[str, ...]]:
    """Every three successive lines, without indentation and marks; lines with less than a word and imports don't count."""
    stripped = [line.strip(" \t|*-#>`.:,") for line in page.splitlines()]
    lines = [line for line in stripped if re.search(r"\w{2}", line) and line != "end" and " require " not in line]
    return set(zip(lines, lines[1:], lines[2:], strict=False))


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) / THEIRS if len(arguments) == 1 else None
    pages = [page for page in PAGES if (OURS / Path(page).name).is_file()]
    if root is None or not all((root / page).is_file() for page in pages):
        print(f"needs a checkout of upstream, with {THEIRS}: make port-check UPSTREAM=directory", file=sys.stderr)
        return 2
    theirs = {page: (root / page).read_text() for page in pages}
    ours = {page.name: page.read_text() for page in sorted(OURS.glob("*.md"))}
    shown = set().union(*map(calls, ours.values()))
    found = [f"{page}: no page of ours shows {call}" for page in pages for call in sorted(calls(theirs[page]) - shown)]
    copied = set().union(*map(runs, theirs.values()))
    for name, page in ours.items():
        if name != "websocket.md":
            found += [f"{name} has lines of upstream's:\n    " + "\n    ".join(run) for run in sorted(runs(page) & copied)]
    print("\n".join(found) or "nothing found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
