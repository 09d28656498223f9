"""Rules: a batch is the same as its transactions one by one, and counts are of what is posted."""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ledger.book import post_book
from ledger.post import post
from ledger.screening import (
    COUNT,
    Bounds,
    Checks,
    CounterKey,
    Pair,
    Rule,
    Screening,
    Velocity,
    Window,
    applies,
    checks_of,
    counter_key,
    screened,
    screened_move,
)
from ledger.state import Instruction, LedgerWallet, Leg, Movement, Terms
from ledger.words import (
    FailureCode,
    RuleAction,
    RuleKind,
    RuleSubject,
    TransactionType,
)
from tests.property.strategies import CURRENCIES, transactions, worlds
from tests.property.test_book import NOW, World, instructions, rich_worlds

_CLIENTS: Final = ("shop", "bank")
_WINDOW: Final = Window(bucket_s=60, buckets=13)


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    """Return rules of every kind, tight enough to be hit."""
    made = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(RuleKind))
        rule = Rule(
            id=UUID(int=number + 1),
            number=number,
            name=f"rule-{number}",
            kind=kind,
            action=draw(st.sampled_from(RuleAction)),
            clients=frozenset(draw(st.sets(st.sampled_from(_CLIENTS), max_size=1))),
            currencies=frozenset(draw(st.sets(st.sampled_from(CURRENCIES), max_size=1))),
            detail=f"rule {number}",
        )
        if kind is RuleKind.VELOCITY:
            velocity = Velocity(
                draw(st.sampled_from(RuleSubject)),
                _WINDOW,
                draw(st.one_of(st.none(), st.integers(0, 4))),
                draw(st.dictionaries(st.sampled_from(CURRENCIES), st.integers(0, 300))),
            )
            rule = replace(rule, velocity=velocity)
        if kind is RuleKind.AMOUNT:
            bounds = Bounds(
                draw(st.one_of(st.none(), st.integers(0, 50))), draw(st.integers(0, 150))
            )
            rule = replace(rule, bounds={draw(st.sampled_from(CURRENCIES)): bounds})
        made.append(rule)
    return made


def _client(transaction_id: UUID) -> str:
    return _CLIENTS[transaction_id.int % len(_CLIENTS)]


def _checks(made: Sequence[Rule], batch: Sequence[Movement | Instruction]) -> Checks:
    owners = {UUID(int=n): f"owner-{n % 2}" for n in range(1, 5)}
    found = {}
    for one in batch:
        client = _client(one.id)
        seen = screened(one, client) if isinstance(one, Instruction) else screened_move(one, client)
        if one.type in made[0].types:
            applying = [rule for rule in made if applies(rule, one.type, client)]
            found[one.id] = checks_of(applying, seen, owners)
    return found


class _Kept:
    """What batches leave for those after them."""

    def __init__(self) -> None:
        self.totals: Tally[CounterKey] = Tally()
        self.seen: set[Pair] = set()
        self.flags: list[tuple[UUID, str]] = []

    def begin(
        self, checks: Checks, approved: Mapping[UUID, frozenset[UUID]] | None = None
    ) -> Screening:
        return Screening(checks, totals=self.totals, seen=self.seen, approved=approved)

    def keep(self, screening: Screening) -> None:
        self.totals.update(screening.added)
        self.seen.update(screening.new_pairs)
        self.flags += [(one, rule.name) for one, rule in screening.flags]

    def all(self) -> tuple[dict[CounterKey, int], set[Pair], list[tuple[UUID, str]]]:
        return {key: one for key, one in self.totals.items() if one}, self.seen, self.flags


@given(worlds(), transactions(), rules())
def test_screened_moves_are_the_same_in_a_batch_as_one_by_one(
    world: list[LedgerWallet],
    batch: list[Movement],
    made: list[Rule],
) -> None:
    checks = _checks(made, batch)
    together, apart = _Kept(), _Kept()
    screening = together.begin(checks)
    whole = post(world, batch, screening)
    together.keep(screening)
    posted, refused, held = [], [], []
    wallets = {one.id: one for one in world}
    for one in batch:
        screening = apart.begin(checks)
        single = post(wallets.values(), [one], screening)
        apart.keep(screening)
        wallets.update((wallet.id, wallet) for wallet in single.wallets)
        posted += single.posted
        refused += single.refused
        held += single.held

    assert (whole.posted, whole.refused, whole.held) == (posted, refused, held)
    assert together.all() == apart.all()


@given(rich_worlds(), instructions(), rules())
def test_screened_instructions_are_the_same_in_a_batch_as_unit_by_unit(
    world: World, batch: list[Instruction], made: list[Rule]
) -> None:
    # What refers to another transaction is the book's own affair.
    batch = [one for one in batch if one.type not in _REFERRING]
    checks = _checks(made, batch)
    together, apart = _Kept(), _Kept()
    screening = together.begin(checks)
    whole = post_book(world.wallets, (), (), batch, moment=NOW, screening=screening)
    together.keep(screening)
    outcomes: list[object] = []
    while batch:
        unit = [one for one in batch if _unit(one) == _unit(batch[0])]
        batch = batch[len(unit) :]
        screening = apart.begin(checks)
        single = post_book(world.wallets, world.holds, (), unit, moment=NOW, screening=screening)
        apart.keep(screening)
        world = world.after(single)
        outcomes += [one.transaction_id for one in single.posted]
        outcomes += [*single.refused, *single.held]

    assert [one.transaction_id for one in whole.posted] == [
        one for one in outcomes if isinstance(one, UUID)
    ]
    assert {*whole.refused, *whole.held} == {one for one in outcomes if not isinstance(one, UUID)}
    assert together.all() == apart.all()


_REFERRING: Final = frozenset(
    {TransactionType.CAPTURE, TransactionType.RELEASE, TransactionType.REVERSAL}
)


def _unit(one: Instruction) -> UUID:
    return one.terms.batch_id or one.id


@given(worlds(), transactions(), rules())
def test_a_rule_of_refusals_never_counts_more_than_it_allows(
    world: list[LedgerWallet],
    batch: list[Movement],
    made: list[Rule],
) -> None:
    made = [replace(rule, action=RuleAction.REFUSE) for rule in made]
    kept = _Kept()
    screening = kept.begin(_checks(made, batch))
    posting = post(world, batch, screening)
    kept.keep(screening)
    velocities = {rule.number: rule.velocity for rule in made if rule.velocity is not None}

    for key, total in kept.totals.items():
        number, measure, _ = key.split("|")
        velocity = velocities[int(number)]
        limit = velocity.count_max if measure == COUNT else velocity.sum_max[measure]
        assert limit is not None
        assert total <= limit
    assert not posting.held
    assert all(one.code is not FailureCode.BATCH_FAILED for one in posting.refused)


@given(worlds(), transactions(), rules())
def test_what_is_approved_is_posted_although_the_rule_would_hold_it_back(
    world: list[LedgerWallet],
    batch: list[Movement],
    made: list[Rule],
) -> None:
    made = [replace(rule, action=RuleAction.REVIEW) for rule in made]
    overruled = {one.id: frozenset(rule.id for rule in made) for one in batch}
    kept = _Kept()
    unscreened = post(world, batch)
    approved = post(world, batch, kept.begin(_checks(made, batch), overruled))

    assert approved.posted == unscreened.posted
    assert approved.refused == unscreened.refused


def test_a_journal_counts_by_each_leg_that_it_debits() -> None:
    alice, bob, fees = (UUID(int=n) for n in (1, 2, 3))
    legs = (Leg(alice, -70, "USD"), Leg(bob, -30, "USD"), Leg(fees, 100, "USD"))
    journal = Instruction(
        UUID(int=9), TransactionType.JOURNAL, alice, None, None, None, Terms(legs=legs)
    )
    rule = Rule(
        id=UUID(int=1),
        number=7,
        name="sum",
        kind=RuleKind.VELOCITY,
        action=RuleAction.REFUSE,
        velocity=Velocity(RuleSubject.WALLET, _WINDOW, 5, {"USD": 1000}),
    )
    [check] = checks_of([rule], screened(journal, "shop"), {})

    assert set(check.counted) == {
        (counter_key(7, COUNT, str(alice)), 1, 5),
        (counter_key(7, "USD", str(alice)), 70, 1000),
        (counter_key(7, COUNT, str(bob)), 1, 5),
        (counter_key(7, "USD", str(bob)), 30, 1000),
    }
