"""What a comparison says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

LISTED_MAX: Final = 20
"""Breaches of one kind that are told one by one; the others are counted."""


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken promise: which invariant (a letter), on what, and how."""

    invariant: str
    subject: str
    detail: str


def others(invariant: str, kind: str, count: int) -> Iterator[Breach]:
    """Yield the breach that says how many more of a kind there are, if there are."""
    if count > 0:
        yield Breach(invariant, kind.replace("_", " "), f"{count} more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The breaches, and how much was compared.

    `late`: what was overtaken because an operator deleted the queue with its announcement in it.
    `crossed`: what was sent over HTTP and posted before what the broker had confirmed by then. Both
    are allowed, and counted. `kinds`: of each type, and of what may be asked for beside it, how
    much was asked for, posted and failed.
    """

    breaches: list[Breach]
    late: int
    crossed: int
    counts: Mapping[str, int]
    kinds: Mapping[str, Mapping[str, int]]
