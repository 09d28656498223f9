"""How hard a chaos run presses beside its ordinary clients."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """`burst` transactions come at once, every `burst_interval_s`; 0: no bursts.

    So many `sequences` debit a wallet each, at up to `sequence_rate_per_s`.
    """

    burst: int = 0
    burst_interval_s: float = 3.0
    sequences: int = 3
    sequence_rate_per_s: float = 5.0
