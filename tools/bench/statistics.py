"""What many measurements come to. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values, and how far they lie apart."""

    median: float
    least: float
    most: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return median, least and most of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed (nearest rank).

    `ordered` ascends and is not empty.
    """
    rank = math.ceil(share * len(ordered))
    return ordered[max(rank, 1) - 1]
