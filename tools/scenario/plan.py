"""The plan of a scenario: made from a seed alone, so that the same seed is the same scenario. Pure.

What each transaction comes to never depends on how the two doors interleave:
- a `steady` wallet moves only by deposits and withdrawals through one door, in order, and is often
  short of money;
- `busy` and `hot` wallets are funded before with more than they could ever pay out;
- every other refusal has a wallet made for it;
- what others than plain moves do has wallets, and rounds, of its own (`tools.scenario.cases`).
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from contracts.money import AMOUNT_MINOR_MAX
from tools.scenario.cases import GUEST_FUNDS, HOUSE, STAGES, CaseSet
from tools.scenario.steps import (
    DOORS,
    NOWHERE,
    OUTSIDE,
    Door,
    Kind,
    Plan,
    PlannedWallet,
    Round,
    Step,
)

CURRENCIES: Final = ("USD", "EUR", "GBP", "CZK", "JPY", "KWD")
_STEADY_PER_DOOR: Final = 24
_BUSY_PER_CURRENCY: Final = 4
_PER_SET: Final = 250
"""A fifth of what comes through a door is more than plain moves."""
_FUNDS: Final = 10_000_000_000
_AMOUNT_MAX: Final = 80_000
# A currency for each door alone: the largest amount is paid in and out of it.
_FULL: Final[dict[Door, str]] = {"http": "BHD", "amqp": "OMR"}


def make_plan(*, seed: int, transactions: int, key_prefix: str) -> Plan:
    """Return the plan of about so many transactions."""
    return _Planner(random.Random(seed), transactions, key_prefix).plan()


class _Planner:
    def __init__(self, chance: random.Random, transactions: int, key_prefix: str) -> None:
        self._chance = chance
        self._per_door = max(40, transactions // 2)
        self._key_prefix = key_prefix
        self._keys = 0
        self._busy = {
            currency: [f"busy-{currency}-{n}" for n in range(_BUSY_PER_CURRENCY)]
            for currency in CURRENCIES
        }

    def plan(self) -> Plan:
        sets = [
            CaseSet(door, number, self._next_key)
            for door in DOORS
            for number in range(max(1, self._per_door // _PER_SET))
        ]
        for one in sets:
            one.play()
        stages = [_merged([one.stages[stage] for one in sets]) for stage in range(STAGES)]
        planned = sum(len(list(stage.all_steps)) for stage in stages) // len(DOORS)
        main = Round({door: self._main(door, self._per_door - planned) for door in DOORS})
        return Plan(
            self._wallets(sets),
            [
                self._funding(sets),
                main,
                *(self._with_repeats(stage) for stage in stages),
                self._repeats(main, stages),
            ],
        )

    def _wallets(self, sets: Sequence[CaseSet]) -> list[PlannedWallet]:
        steady = [
            PlannedWallet(name=_steady(door, n), currency=CURRENCIES[n % len(CURRENCIES)])
            for door in DOORS
            for n in range(_STEADY_PER_DOOR)
        ]
        funded = [PlannedWallet(name=name, currency=_currency(name)) for name in self._funded()]
        full = [PlannedWallet(name=f"full-{door}", currency=_FULL[door]) for door in DOORS]
        return [
            *steady,
            *funded,
            *full,
            *HOUSE,
            *(wallet for one in sets for wallet in one.wallets),
            PlannedWallet(name="empty", currency="USD"),
            PlannedWallet(name="frozen", currency="USD", status="FROZEN"),
            PlannedWallet(name="closed", currency="USD", status="CLOSED"),
        ]

    def _funded(self) -> list[str]:
        busy = [name for names in self._busy.values() for name in names]
        return [*busy, *(f"hot-{currency}" for currency in CURRENCIES)]

    def _funding(self, sets: Sequence[CaseSet]) -> Round:
        deposits = [
            self._step("deposit", _FUNDS, _currency(name), destination=name)
            for name in self._funded()
        ]
        deposits += [
            self._step("deposit", GUEST_FUNDS, "USD", destination=name)
            for one in sets
            for name in one.funded
        ]
        return Round({"http": deposits, "amqp": []})

    def _main(self, door: Door, count: int) -> list[Step]:
        steps = self._edge(door)
        each_refusal = max(1, self._per_door // 200)
        for _ in range(each_refusal):
            steps.extend(self._refusals())
        while len(steps) < count:
            steps.append(self._ordinary(door))
        tail = steps[3:]
        self._chance.shuffle(tail)
        return self._with_duplicates([*steps[:3], *tail])

    def _ordinary(self, door: Door) -> Step:
        lot = self._chance.random()
        if lot < 0.5:  # noqa: PLR2004  # half of it on steady wallets
            return self._steady(door)
        return self._transfer(is_hot=lot < 0.75)  # noqa: PLR2004  # a quarter hot, a quarter cold

    def _steady(self, door: Door) -> Step:
        number = self._chance.randrange(_STEADY_PER_DOOR)
        name, currency = _steady(door, number), CURRENCIES[number % len(CURRENCIES)]
        minor = self._chance.randint(1, _AMOUNT_MAX)
        if self._chance.random() < 0.55:  # noqa: PLR2004  # so that some withdrawals are refused
            return self._step("deposit", minor, currency, destination=name)
        return self._step("withdrawal", minor, currency, source=name)

    def _transfer(self, *, is_hot: bool) -> Step:
        currency = self._chance.choice(CURRENCIES)
        pair = self._chance.sample(self._busy[currency], 2)
        if is_hot:
            pair = [pair[0], f"hot-{currency}"]
            self._chance.shuffle(pair)
        minor = self._chance.randint(1, _AMOUNT_MAX)
        return self._step("transfer", minor, currency, source=pair[0], destination=pair[1])

    def _edge(self, door: Door) -> list[Step]:
        """The largest amount, the smallest, and back."""
        name, currency = f"full-{door}", _FULL[door]
        return [
            self._step("deposit", AMOUNT_MINOR_MAX, currency, destination=name),
            self._step("deposit", 1, currency, destination=name),
            self._step("withdrawal", AMOUNT_MINOR_MAX, currency, source=name),
        ]

    def _refusals(self) -> list[Step]:
        """One of each kind."""
        one, other = self._chance.sample(self._busy["USD"], 2)
        euro = self._busy["EUR"][0]
        minor = self._chance.randint(1, _AMOUNT_MAX)
        return [
            self._step("withdrawal", minor, "USD", source="empty"),
            self._step("transfer", minor, "USD", source="empty", destination=one),
            self._step("transfer", minor, "USD", source=one, destination=one),
            self._step("transfer", minor, "USD", source=one, destination=euro),
            self._step("deposit", minor, "EUR", destination=other),
            self._step("transfer", minor, "USD", source=one, destination=NOWHERE),
            self._step("deposit", minor, "USD", destination=NOWHERE),
            self._step("transfer", minor, "USD", source=one, destination="frozen"),
            self._step("withdrawal", minor, "USD", source="frozen"),
            self._step("deposit", minor, "USD", destination="closed"),
            self._step("transfer", minor, "USD", source=one, destination=OUTSIDE),
            self._step("transfer", minor, "USD", source=OUTSIDE, destination=other),
        ]

    def _with_duplicates(self, steps: Sequence[Step]) -> list[Step]:
        """Repeat one in twenty, at once or later, as clients do that lost an answer."""
        last = len(steps) - 1
        again = self._chance.sample(range(len(steps)), max(1, len(steps) // 20))
        places = [*enumerate(steps)]
        places += [(self._chance.randint(index, last), steps[index]) for index in again]
        # A stable sort: of two at one place, the original comes first.
        return [step for _, step in sorted(places, key=lambda place: place[0])]

    def _with_repeats(self, stage: Round) -> Round:
        return Round(
            {door: self._with_duplicates(stage.steps[door]) for door in DOORS}, stage.batches
        )

    def _repeats(self, main: Round, stages: Sequence[Round]) -> Round:
        """What came through one door comes through the other; then keys stand for other content."""
        repeats = Round()
        for door, other in zip(DOORS, reversed(DOORS), strict=True):
            count = max(5, self._per_door // 50)
            repeats.steps[door].extend(self._chance.sample(main.steps[other], count))
            for stage in stages:
                # To overdraw by force is for the HTTP door alone.
                steps = [step for step in stage.steps[other] if not step.terms.is_forced]
                repeats.steps[door].extend(self._chance.sample(steps, 5))
                repeats.batches[door].extend(stage.batches[other][:2])
            reused = self._chance.sample(main.steps[door][3:], max(3, self._per_door // 250))
            repeats.steps[door].extend(_changed(step) for step in reused)
        return repeats

    def _step(
        self,
        kind: Kind,
        minor: int,
        currency: str,
        *,
        source: str | None = None,
        destination: str | None = None,
    ) -> Step:
        return Step(self._next_key(), kind, minor, currency, source=source, destination=destination)

    def _next_key(self) -> str:
        self._keys += 1
        return f"{self._key_prefix}{self._keys}"


def _steady(door: Door, number: int) -> str:
    return f"steady-{door}-{number}"


def _currency(name: str) -> str:
    """The currency that the names of funded wallets hold."""
    return name.split("-")[1]


def _changed(step: Step) -> Step:
    return replace(step, minor=(step.minor or 0) + 1, is_changed=True)


def _merged(rounds: Sequence[Round]) -> Round:
    """Return one round of all of these."""
    merged = Round()
    for door in DOORS:
        for one in rounds:
            merged.steps[door].extend(one.steps[door])
            merged.batches[door].extend(one.batches[door])
    return merged
