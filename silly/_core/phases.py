"""The phases of the process, and what can happen in each. ``ending`` goes through them,
and describes each.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """How far the process has come with its end."""

    RUNNING = "running"
    NOTICE = "notice"
    DRAINING = "draining"
    ENDING = "ending"
    LEAVING = "leaving"
    CLOSING = "closing"
    OVER = "over"


class Rules(NamedTuple):
    """What can happen in a phase."""

    blocks: bool
    """Whether tasks may block: wait for the network, for each other, for a time."""
    starts: bool
    """Whether tasks that the application forks start, and its timers fire."""
    begins: bool
    """Whether ``listen`` works, and ``silly.exit`` begins to drain. If not, an end is
    under way, and its status counts."""
    then: frozenset[Phase]
    """The phases that may follow."""


def _phases(*phases: Phase) -> frozenset[Phase]:
    return frozenset(phases)


TABLE: dict[Phase, Rules] = {
    Phase.RUNNING: Rules(True, True, True, _phases(Phase.NOTICE, Phase.DRAINING, Phase.OVER)),
    Phase.NOTICE: Rules(True, True, True, _phases(Phase.DRAINING, Phase.OVER)),
    Phase.DRAINING: Rules(True, True, False, _phases(Phase.ENDING, Phase.OVER)),
    Phase.ENDING: Rules(True, False, False, _phases(Phase.LEAVING, Phase.CLOSING, Phase.OVER)),
    Phase.LEAVING: Rules(False, False, False, _phases(Phase.CLOSING, Phase.OVER)),
    Phase.CLOSING: Rules(False, False, False, _phases(Phase.OVER)),
    Phase.OVER: Rules(True, True, True, _phases(Phase.NOTICE, Phase.DRAINING)),
}
