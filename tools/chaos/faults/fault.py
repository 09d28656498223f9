"""What a fault is: a name, a claim, and a way to bring it about and undo it again."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tools.chaos.scene import Scene

STANDBY_S: Final = 5.0
"""A process dies and another one is there."""
STARTED_S: Final = 15.0
"""All processes of a kind die at once: new ones have to start, side by side, on a busy machine."""
POSTGRES_BACK_S: Final = 5.0
"""PostgreSQL serves again."""
BROKER_BACK_S: Final = 10.0
"""The broker serves again: connections are made anew under backoff, queues elect a leader."""

Strike: TypeAlias = Callable[[Scene], AbstractAsyncContextManager[None]]
"""Entered: the fault has struck. Left: it is healed, also after an error in the middle."""


class ClaimBrokenError(Exception):
    """What a fault says of the ledger is not so; the message tells what was found."""


def always() -> str | None:
    """Say that a fault can be brought about wherever the scene can."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFault:
    """One thing that can go wrong.

    `claim` says what the system does then. `targets` are where it can strike, each by its name; a
    fault without any has one `strike`. To strike takes about `striking_s`; then it lasts about
    `lasting_s`. Within `recovery_bound_s` after healing a new transaction is COMPLETED. `missing`
    returns what this machine lacks for it.
    """

    name: str
    claim: str
    strike: Strike | None = None
    targets: Mapping[str, Strike] = field(default_factory=dict)
    striking_s: float = 0.5
    lasting_s: float = 1.0
    recovery_bound_s: float = STANDBY_S
    missing: Callable[[], str | None] = always
    moves_bindings: bool = False
    """Whether the hash exchange may lead a wallet to another partition afterwards."""

    def strike_at(self, target: str | None) -> Strike:
        """Return what brings it about at one of its targets, or at the only place it has."""
        strike = self.strike if target is None else self.targets[target]
        if strike is None:
            raise AssertionError(f"{self.name} strikes at a target")
        return strike
