"""What a chaos run is asked to do."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """A run: its seed decides load and schedule. `faults` empty stands for all of them."""

    directory: Path
    seed: int
    seconds: float
    rate_per_s: float
    clients: int
    wallets: int
    faults: tuple[str, ...] = ()
