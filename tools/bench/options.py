"""What a bench run is asked to do, and how much of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """A run. `cases` empty stands for all of them; `postgres` None for the stack's usual server."""

    directory: Path
    runs: int
    is_quick: bool
    processors: int
    cases: tuple[str, ...] = ()
    postgres: int | None = None
    """Major version of the PostgreSQL that everything runs on."""

    @property
    def sizes(self) -> "Sizes":
        """How much of everything."""
        return QUICK if self.is_quick else FULL


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is done for one sample of each kind."""

    wallets: int
    many_wallets: int
    """Ten times as many: over so many the money is spread uniformly and by Zipf's law."""
    poor_wallets: int
    recorded: int
    requested: int
    singles: int
    rival: int
    seconds: float
    """Of one load over HTTP, its warm-up included."""
    warm_up_s: float
    submit_seconds: float
    """Shorter: what is accepted piles up, and the ingress refuses beyond a million."""
    pgbench_scale: int
    pgbench_s: int
    pgbench_warm_up_s: int
    latency_rates: tuple[int, ...]
    readable: int
    memory: int
    proven: tuple[int, int]
    """Of the book that is verified and exported: transactions, and wallets."""
    growth: tuple[tuple[int, int], ...]
    """Steps: transactions in the history, and wallets."""


FULL: Final = Sizes(
    wallets=10_000,
    many_wallets=100_000,
    poor_wallets=3_000,
    recorded=100_000,
    requested=100_000,
    singles=50_000,
    rival=6_000,
    seconds=15.0,
    warm_up_s=3.0,
    submit_seconds=8.0,
    pgbench_scale=20,
    pgbench_s=10,
    pgbench_warm_up_s=5,
    latency_rates=(200, 2_000, 6_000),
    readable=10_000,
    memory=1_000_000,
    proven=(1_000_000, 10_000),
    growth=((10_000, 10_000), (1_000_000, 10_000), (10_000_000, 1_000_000)),
)

# Proves that every case works; its figures mean nothing.
QUICK: Final = Sizes(
    wallets=500,
    many_wallets=5_000,
    poor_wallets=150,
    recorded=3_000,
    requested=3_000,
    singles=1_500,
    rival=300,
    seconds=3.0,
    warm_up_s=1.0,
    submit_seconds=3.0,
    pgbench_scale=1,
    pgbench_s=1,
    pgbench_warm_up_s=1,
    latency_rates=(100, 300, 600),
    readable=500,
    memory=8_000,
    proven=(5_000, 500),
    growth=((1_000, 500), (5_000, 500), (10_000, 1_000)),
)
