"""Prints what pip installs for ``make test-oldest``: the oldest versions of what silly needs, as setup.cfg allows them, and the
packages of the ``test`` extra that are named as arguments.

    python -m tests.oldest pytest trustme

It needs no package. The status is 1 if setup.cfg allows a package without saying from which version on.
"""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

SETUP = Path(__file__).resolve().parent.parent / "setup.cfg"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+(\[\w+\])?)\s*>=\s*(?P<floor>[\w.]+)\s*(?:,[^;]*)?(?P<marker>;.*)?")


class Requirement(NamedTuple):
    """A line of setup.cfg: ``floor`` is the oldest version that it allows, ``marker`` says for which Pythons it is, with the
    semicolon before it."""

    name: str
    floor: str
    marker: str

    @property
    def oldest(self) -> str:
        """The line that asks for the oldest version."""
        return f"{self.name}=={self.floor}{self.marker}"


def requirements(lines: str) -> list[Requirement]:
    """The requirements in ``lines``, of which each needs a floor. Raises ValueError."""
    found = []
    for line in lines.splitlines():
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            raise ValueError(f"no line 'package>=version' of setup.cfg: {text!r}")
        found.append(Requirement(match["name"], match["floor"], match["marker"] or ""))
    return found


def normal(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def oldest(setup: str, tools: list[str]) -> list[str]:
    """What pip is to install. ``setup`` is the text of setup.cfg, ``tools`` are names in its ``test`` extra: of those pip takes
    the newest. Raises ValueError."""
    config = ConfigParser()
    config.read_string(setup)
    needed = requirements(config["options"]["install_requires"])
    extra = {normal(each.name): each for each in requirements(config["options.extras_require"]["test"])}
    lines = [each.oldest for each in needed]
    for tool in tools:
        if normal(tool) not in extra:
            raise ValueError(f"{tool} is not in the extra 'test' of setup.cfg")
        each = extra[normal(tool)]
        lines.append(f"{each.name}>={each.floor}{each.marker}")
    return lines


if __name__ == "__main__":
    try:
        print("\n".join(oldest(SETUP.read_text(), sys.argv[1:])))
    except ValueError as exc:
        sys.exit(f"oldest.py: {exc}")
