"""What others than plain moves do, each case on wallets of its own. Pure.

A case is the same through both doors. Its first steps hold, move and schedule money, its second
ones refer to what those did, and its third ones to what is left of that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tools.scenario.steps import (
    NOWHERE,
    OUTSIDE,
    Batch,
    Door,
    Kind,
    PlannedLeg,
    PlannedTerms,
    PlannedWallet,
    Round,
    Step,
)

STAGES: Final = 3
GUEST_FUNDS: Final = 100_000
"""What each guest has before its first case, in minor units."""

_DAY_S: Final = 24 * 3600
_DUE_IN_S: Final = 1
_EXPIRES_IN_S: Final = 1
_ROOMS: Final = ("holds", "refunds", "journals", "batches", "terms")
"""Of each set one guest for each of these: no two cases move money out of one wallet."""
HOUSE: Final = (
    PlannedWallet(name="fees", currency="USD", is_internal=True),
    PlannedWallet(name="suspense", currency="USD", is_internal=True),
    PlannedWallet(name="exchange-USD", currency="USD", is_internal=True),
    PlannedWallet(name="exchange-EUR", currency="EUR", is_internal=True),
)
"""The house's own wallets, which may owe: so no order of what reaches them makes a difference."""


@dataclass(frozen=True, slots=True)
class CaseSet:
    """One guest for each case, a merchant, and what happens between them in each stage."""

    door: Door
    number: int
    next_key: Callable[[], str]
    stages: tuple[Round, ...] = field(default_factory=lambda: tuple(Round() for _ in range(STAGES)))

    @property
    def wallets(self) -> Iterator[PlannedWallet]:
        """The customers' wallets of this set."""
        for name in (*_ROOMS, "forced", "merchant"):
            yield PlannedWallet(name=self._name(name), currency="USD")
        yield PlannedWallet(name=self._name("euros"), currency="EUR")

    @property
    def funded(self) -> Iterator[str]:
        """The wallets that have GUEST_FUNDS before."""
        for name in (*_ROOMS, "merchant"):
            yield self._name(name)

    def play(self) -> None:
        """Plan every case."""
        self._holds()
        self._refunds()
        self._forced()
        self._journals()
        self._batches()
        self._terms()

    def _holds(self) -> None:
        guest, shop = self._name("holds"), self._name("merchant")
        first = self._do(0, "hold", 30_000, guest, shop)
        second = self._do(0, "hold", 20_000, guest, shop)
        third = self._do(0, "hold", 10_000, guest)
        short = self._do(0, "hold", 5_000, guest, expires_in_s=_EXPIRES_IN_S)
        self._do(0, "hold", 50_000, guest, shop)  # more than is available

        def capture(stage: int, of: str, minor: int | None, *, is_final: bool | None) -> str:
            return self._do(stage, "capture", minor, guest, shop, of=of, is_final=is_final)

        capture(1, first, 12_000, is_final=False)
        capture(1, first, 50_000, is_final=False)  # more than is held
        partly = capture(1, second, 15_000, is_final=None)
        self._do(1, "release", None, guest, of=third)
        capture(1, short, None, is_final=None)  # has expired
        capture(1, NOWHERE, 100, is_final=None)
        self._do(1, "release", None, guest, of=NOWHERE)

        capture(2, first, None, is_final=None)
        self._do(2, "release", None, guest, of=second)  # was captured
        capture(2, third, None, is_final=None)  # was released
        self._do(2, "reversal", 5_000, shop, guest, of=partly)
        self._do(2, "reversal", None, shop, guest, of=first)  # a hold is released, not reversed

    def _refunds(self) -> None:
        guest, shop = self._name("refunds"), self._name("merchant")
        first = self._do(0, "transfer", 40_000, guest, shop)
        second = self._do(0, "transfer", 10_000, guest, shop)

        self._do(1, "reversal", 15_000, shop, guest, of=first)
        self._do(1, "reversal", 30_000, shop, guest, of=first)  # more than is left
        self._do(1, "reversal", None, shop, guest, of=second)

        self._do(2, "reversal", None, shop, guest, of=first)
        self._do(2, "reversal", None, shop, guest, of=second)  # is reversed already
        self._do(2, "reversal", None, shop, guest, of=NOWHERE)

    def _forced(self) -> None:
        """A deposit is taken back that was spent already: an operator may, over HTTP."""
        guest = self._name("forced")
        paid_in = self._do(0, "deposit", 7_000, None, guest)
        self._do(1, "withdrawal", 6_000, guest)
        self._do(1, "reversal", None, guest, of=paid_in)
        if self.door == "http":
            self._do(2, "reversal", None, guest, of=paid_in, is_forced=True)

    def _journals(self) -> None:
        guest, shop = self._name("journals"), self._name("merchant")
        euros = self._name("euros")
        split = self._journal(0, (guest, -10_000), (shop, 9_700), ("fees", 300))
        self._journal(
            0,
            (guest, -5_000),
            ("exchange-USD", 5_000),
            ("exchange-EUR", -4_600, "EUR"),
            (euros, 4_600, "EUR"),
        )
        self._journal(0, (OUTSIDE, -2_500), ("suspense", 2_500))
        # What is short in between is judged after all legs; what is short then, is refused.
        self._journal(0, (guest, -90_000), (guest, 80_000), (shop, 10_000))
        self._journal(0, (guest, -1_000_000), (shop, 1_000_000))

        self._do(1, "reversal", None, guest, shop, of=split)
        self._journal(1, ("suspense", -2_500), (guest, 2_500))

        self._do(2, "reversal", None, guest, shop, of=split)  # is reversed already

    def _batches(self) -> None:
        guest, shop = self._name("batches"), self._name("merchant")
        good = (
            self._step("transfer", 1_000, guest, shop),
            self._step("transfer", 500, guest, "fees"),
            self._step("hold", 2_000, guest, shop),
        )
        bad = (
            self._step("transfer", 1_000, guest, shop),
            self._step("withdrawal", 900_000, guest),
            self._step("deposit", 100, None, guest),
        )
        self.stages[0].batches[self.door] += [Batch(good), Batch(bad), Batch(good)]

    def _terms(self) -> None:
        guest, shop = self._name("terms"), self._name("merchant")
        # The first names the wallet as its funding left it; then that is over.
        for _ in range(2):
            self._do(0, "transfer", 100, guest, shop, version=1)
        self._do(0, "transfer", 1_000, guest, shop, available_at_least=50_000)
        self._do(0, "transfer", 1_000, guest, shop, balance_at_most=10)
        self._do(0, "transfer", 1_000, guest, shop, valid_for_s=_DAY_S)
        self._do(0, "transfer", 1_000, guest, shop, valid_for_s=-_DAY_S)
        self._do(0, "transfer", 3_000, guest, shop, due_in_s=_DUE_IN_S)
        self._do(0, "transfer", 4_000, guest, shop, due_in_s=_DAY_S, is_cancelled=True)

    def _do(
        self,
        stage: int,
        kind: Kind,
        minor: int | None,
        source: str | None,
        destination: str | None = None,
        **terms: object,
    ) -> str:
        """Add a step to a stage; return its key."""
        step = self._step(kind, minor, source, destination, **terms)
        self.stages[stage].steps[self.door].append(step)
        return step.key

    def _step(
        self,
        kind: Kind,
        minor: int | None,
        source: str | None,
        destination: str | None = None,
        **terms: object,
    ) -> Step:
        return Step(
            self.next_key(),
            kind,
            minor,
            "USD",
            source=source,
            destination=destination,
            terms=PlannedTerms(**terms),  # type: ignore[arg-type]  # by their names
        )

    def _journal(self, stage: int, *legs: tuple[str, int] | tuple[str, int, str]) -> str:
        planned = tuple(PlannedLeg(*leg[:2], *(leg[2:] or ("USD",))) for leg in legs)
        ordering = next(leg.wallet for leg in planned if leg.wallet != OUTSIDE)
        step = Step(self.next_key(), "journal", None, "USD", source=ordering, legs=planned)
        self.stages[stage].steps[self.door].append(step)
        return step.key

    def _name(self, what: str) -> str:
        return f"{what}-{self.door}-{self.number}"
