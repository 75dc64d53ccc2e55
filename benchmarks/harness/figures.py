"""The statistics: what a series of turns says, what the ratios of two series say, and whether one of them is slower."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The median of some figures, the least and the most of them."""

    median: float
    least: float
    most: float


def summary(figures: Sequence[float]) -> Summary:
    """What to print of ``figures``, of which there is one at least."""
    return Summary(statistics.median(figures), min(figures), max(figures))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Theirs by ours, turn by turn: a machine that is slower for a while is so for both."""
    return [their / our for their, our in zip(theirs, ours, strict=False)]


SLOWER, NOT_SLOWER, UNDECIDED = "slower", "not slower", "undecided"


@dataclass(frozen=True)
class Verdict:
    """What pairs of measurements say: the median of the ratios new / base, and an interval that holds the true median with the
    ``confidence`` that was asked for. Without enough pairs for that confidence the interval has no bounds."""

    median: float
    low: float
    high: float
    what: str


def interval(figures: Sequence[float], confidence: float) -> tuple[float, float]:
    """An interval that holds the median of whatever ``figures`` are drawn from: the sign test turned round.

    A draw is below the true median as often as above, so how many of ``n`` are below is binomial, whatever their distribution.
    The interval goes from the k-th least to the k-th greatest figure, with the largest ``k`` that keeps the confidence.
    """
    ordered = sorted(figures)
    count = len(ordered)
    outside = 0.0
    low, high = -math.inf, math.inf
    for k in range(count // 2):
        outside += math.comb(count, k) / 2**count * 2
        if outside > 1 - confidence:
            break
        low, high = ordered[k], ordered[-1 - k]
    return low, high


def verdict(pairs: Sequence[float], tolerance: float, confidence: float) -> Verdict:
    """Whether the new revision is slower, by the ratios new / base of its pairs.

    Slower: the whole interval is above 1 + ``tolerance``. Not slower: the whole interval is below that. Else the noise is too
    great to tell.
    """
    low, high = interval(pairs, confidence)
    bound = 1 + tolerance
    what = SLOWER if low > bound else NOT_SLOWER if high <= bound else UNDECIDED
    return Verdict(statistics.median(pairs), low, high, what)
