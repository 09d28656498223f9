"""What a comparison says."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken promise: which invariant (a letter), on what, and how."""

    invariant: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The breaches, and how much was compared.

    `late_debits`: debits that were overtaken because they lost their announcement and waited for
    the reconciler; allowed, and counted.
    """

    breaches: list[Breach]
    late_debits: int
    counts: Mapping[str, int]
