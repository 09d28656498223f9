"""What a scenario is made of: wallets and transactions by their names, steps and rounds. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

Door = Literal["http", "amqp"]
Kind = Literal[
    "deposit", "withdrawal", "transfer", "hold", "capture", "release", "reversal", "journal"
]

DOORS: Final[tuple[Door, Door]] = ("http", "amqp")
KINDS: Final[tuple[Kind, ...]] = Kind.__args__  # type: ignore[attr-defined]
OUTSIDE: Final = "outside"
"""The external wallet of a currency, which no client may name in a transfer."""
NOWHERE: Final = "nowhere"
"""A wallet, or the key of a transaction, that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWallet:
    """A wallet to be made; `status` is what it is set to before any transaction."""

    name: str
    currency: str
    status: str = "ACTIVE"
    is_internal: bool = False


@dataclass(frozen=True, slots=True)
class PlannedLeg:
    """A leg of a journal: a wallet by its name, signed minor units."""

    wallet: str
    minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTerms:
    """What a step asks for beyond its amount and its wallets."""

    of: str | None = None
    """The key of the hold that is captured or released, or of the transaction that is reversed."""
    expires_in_s: int | None = None
    is_final: bool | None = None
    is_forced: bool = False
    version: int | None = None
    """A condition on the ordering wallet: its version before."""
    available_at_least: int | None = None
    balance_at_most: int | None = None
    valid_for_s: int | None = None
    """How long it is valid, from the scenario's beginning; negative: it was."""
    due_in_s: int | None = None
    """How far ahead it is scheduled, from its round's beginning."""
    is_cancelled: bool = False
    """Whether it is cancelled as soon as it is recorded."""

    @property
    def has_condition(self) -> bool:
        """Whether the ordering wallet has to be as it says."""
        wanted = (self.version, self.available_at_least, self.balance_at_most)
        return any(one is not None for one in wanted)


_NO_TERMS: Final = PlannedTerms()


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction to submit, its wallets by name.

    `minor` is in minor units of `currency`; None is a journal's, and the rest of what is captured,
    released or reversed. Source and destination are the wallets that a transaction changes, also
    where its request names a hold or another transaction instead.
    """

    key: str
    kind: Kind
    minor: int | None
    currency: str
    source: str | None = None
    destination: str | None = None
    is_changed: bool = False
    """Whether its key was used before, with other content."""
    legs: tuple[PlannedLeg, ...] = ()
    terms: PlannedTerms = _NO_TERMS

    @property
    def wallets(self) -> tuple[str, ...]:
        """The wallets that it changes; the world outside only where it is named."""
        if self.legs:
            return tuple(leg.wallet for leg in self.legs)
        return tuple(name for name in (self.source, self.destination) if name is not None)

    @property
    def ordered_by(self) -> str:
        """The wallet that is debited, or credited by a deposit."""
        return self.source or self.destination or ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps that are posted all in one commit, or not at all."""

    steps: tuple[Step, ...]

    @property
    def ordered_by(self) -> str:
        """The wallet that all of them move."""
        return self.steps[0].ordered_by


@dataclass(frozen=True, slots=True)
class Round:
    """What goes through both doors at once. `steps` are in order, repeated ones included.

    `batches` are of wallets that no step of the round moves out of.
    """

    steps: dict[Door, list[Step]] = field(default_factory=lambda: {"http": [], "amqp": []})
    batches: dict[Door, list[Batch]] = field(default_factory=lambda: {"http": [], "amqp": []})

    @property
    def all_steps(self) -> Iterator[Step]:
        """Every step, of batches too."""
        for door in DOORS:
            yield from self.steps[door]
            yield from steps_of(self.batches[door])


@dataclass(frozen=True, slots=True)
class Plan:
    """Wallets, then rounds; a round begins when all of the one before has ended."""

    wallets: list[PlannedWallet]
    rounds: list[Round]


def steps_of(batches: Iterable[Batch]) -> Iterator[Step]:
    """Yield the steps of batches in their order."""
    for batch in batches:
        yield from batch.steps
