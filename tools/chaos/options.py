"""What a chaos run is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from tools.chaos.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """A run: its seed decides shape, load and schedule. `faults` empty stands for all of them.

    `bounds_scale` multiplies every bound of a recovery: for machines that are shared.
    """

    directory: Path
    seed: int
    seconds: float
    shape: Shape
    clients: int
    wallets: int
    bounds_scale: float = 1.0
    faults: tuple[str, ...] = ()
