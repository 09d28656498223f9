"""The general way of posting: the oracle of the fast one, and laws that hold for every type."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeVar
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ledger.book import post_book
from ledger.post import post
from ledger.state import (
    BookPosting,
    Hold,
    Instruction,
    LedgerWallet,
    Leg,
    Movement,
    Original,
    Terms,
)
from ledger.words import (
    MINOR_MAX,
    HoldStatus,
    TransactionStatus,
    TransactionType,
    WalletKind,
    WalletStatus,
)
from tests.property.strategies import CURRENCIES, EXTERNAL, transactions, worlds

NOW = datetime(2026, 11, 28, tzinfo=UTC)
_IDS = [UUID(int=n) for n in range(1, 5)]
_ALL = [*_IDS, EXTERNAL["USD"], EXTERNAL["JPY"]]
_REFERRED = [UUID(int=20_000 + n) for n in range(14)]


@dataclass(frozen=True)
class World:
    """All that instructions can name."""

    wallets: Sequence[LedgerWallet]
    holds: Sequence[Hold] = ()
    originals: Sequence[Original] = ()

    def after(self, posting: BookPosting) -> "World":
        """Return the world as a posting leaves it."""
        return World(
            _changed(self.wallets, posting.wallets),
            [*_changed(self.holds, posting.holds), *_new(self.holds, posting.holds)],
            self.originals,
        )


Thing = TypeVar("Thing", LedgerWallet, Hold)


def _changed(before: Iterable[Thing], changes: Iterable[Thing]) -> list[Thing]:
    by_id = {one.id: one for one in changes}
    return [by_id.get(one.id, one) for one in before]


def _new(before: Iterable[Thing], changes: Iterable[Thing]) -> list[Thing]:
    known = {one.id for one in before}
    return [one for one in changes if one.id not in known]


@st.composite
def rich_worlds(draw: st.DrawFn) -> World:
    """Return active wallets without holds; every instruction may be reversed."""
    wallets = [
        LedgerWallet(
            wallet_id,
            WalletKind.CUSTOMER,
            CURRENCIES[number % 2],
            WalletStatus.ACTIVE,
            draw(st.integers(0, 300)),
            0,
            draw(st.sampled_from([0, 0, 50])),
            0,
        )
        for number, wallet_id in enumerate(_IDS)
    ]
    outside = [
        LedgerWallet(EXTERNAL[code], WalletKind.EXTERNAL, code, WalletStatus.ACTIVE, 0, 0, 0, 0)
        for code in CURRENCIES
    ]
    return World([*wallets, *outside])


@st.composite
def instructions(draw: st.DrawFn) -> list[Instruction]:
    """Return instructions of every type; many refer to those before them."""
    made: list[Instruction] = []
    for transaction_id in _REFERRED[: draw(st.integers(1, len(_REFERRED)))]:
        kind = draw(st.sampled_from(list(TransactionType)))
        currency = draw(st.sampled_from(CURRENCIES))
        source, destination = draw(st.sampled_from(_ALL)), draw(st.sampled_from(_ALL))
        earlier = draw(st.sampled_from([one.id for one in made] or _REFERRED))
        part = draw(st.one_of(st.none(), st.integers(1, 120)))
        batch_id = draw(st.sampled_from([None, None, UUID(int=1)]))
        batch_id = None if made and made[-1].terms.batch_id is None and batch_id else batch_id
        amount: int | None = draw(st.integers(1, 120))
        terms = Terms(batch_id=batch_id)
        match kind:
            case TransactionType.DEPOSIT:
                source = EXTERNAL[currency]
            case TransactionType.WITHDRAWAL:
                destination = EXTERNAL[currency]
            case TransactionType.HOLD:
                terms = replace(terms, expires_in_s=60)
            case TransactionType.CAPTURE:
                amount = part
                terms = replace(terms, hold_id=earlier, is_final=draw(st.booleans()))
            case TransactionType.RELEASE:
                amount = None
                terms = replace(terms, hold_id=earlier)
            case TransactionType.REVERSAL:
                amount = part
                is_forced = draw(st.sampled_from([False, False, True]))
                terms = replace(terms, reverses=earlier, is_forced=is_forced)
            case TransactionType.JOURNAL:
                amount = None
                terms = replace(terms, legs=draw(_journal_legs()))
        made.append(Instruction(transaction_id, kind, source, destination, amount, currency, terms))
    return made


@st.composite
def _journal_legs(draw: st.DrawFn) -> tuple[Leg, ...]:
    """Return legs that sum to zero in each currency."""
    legs: list[Leg] = []
    for currency in draw(st.sampled_from([("USD",), ("JPY",), CURRENCIES])):
        own = [_IDS[n] for n in range(len(_IDS)) if CURRENCIES[n % 2] == currency]
        amounts = draw(st.lists(st.integers(-90, 90).filter(bool), min_size=1, max_size=3))
        rest = -sum(amounts)
        legs += [
            Leg(draw(st.sampled_from(own)), amount, currency)
            for amount in [*amounts, rest]
            if amount
        ]
    return tuple(legs)


def _originals(batch: Sequence[Instruction]) -> list[Original]:
    return [
        Original(
            one.id,
            one.type,
            TransactionStatus.PENDING,
            (),
            None,
            is_whole_only=one.type is TransactionType.JOURNAL or one.terms.batch_id is not None,
        )
        for one in batch
    ]


def _posted(world: World, batch: Sequence[Instruction]) -> BookPosting:
    return post_book(world.wallets, world.holds, _originals(batch), batch, moment=NOW)


def _as_instructions(batch: Sequence[Movement]) -> list[Instruction]:
    return [Instruction(*movement) for movement in batch]


@given(worlds(), transactions())
def test_plain_moves_are_posted_alike_on_both_ways(
    wallets: list[LedgerWallet], batch: list[Movement]
) -> None:
    fast = post(wallets, batch)
    general = post_book(wallets, [], [], _as_instructions(batch), moment=NOW)

    assert fast.refused == general.refused
    assert fast.entries == [entry for one in general.posted for entry in one.entries]
    assert {one.id: one for one in fast.wallets} == {one.id: one for one in general.wallets}


@given(rich_worlds(), instructions())
def test_money_is_conserved_and_what_is_held_is_what_open_holds_have_left(
    world: World, batch: list[Instruction]
) -> None:
    posting = _posted(world, batch)
    after = world.after(posting)

    currency_of = {one.id: one.currency for one in world.wallets}
    sums: dict[str, int] = defaultdict(int)
    held: dict[UUID, int] = defaultdict(int)
    for entry in (entry for one in posting.posted for entry in one.entries):
        sums[currency_of[entry.wallet_id]] += entry.amount
    for hold in after.holds:
        held[hold.wallet_id] += hold.remaining
        assert (hold.remaining > 0) == (hold.status is HoldStatus.OPEN)
        assert hold.captured + hold.remaining <= hold.amount

    assert all(total == 0 for total in sums.values())
    assert all(one.held == held[one.id] for one in after.wallets)


@given(rich_worlds(), instructions())
def test_nobody_is_overdrawn_but_by_force(world: World, batch: list[Instruction]) -> None:
    for wallet in world.after(_posted(world, batch)).wallets:
        assert -MINOR_MAX <= wallet.balance <= MINOR_MAX
        if wallet.kind is WalletKind.CUSTOMER:
            assert wallet.available + wallet.forced_overdraft >= 0


@given(rich_worlds(), instructions())
def test_every_transaction_ends_and_a_batch_ends_as_one(
    world: World, batch: list[Instruction]
) -> None:
    posting = _posted(world, batch)
    posted = {one.transaction_id for one in posting.posted}
    refused = {one.transaction_id for one in posting.refused}

    assert posted | refused == {one.id for one in batch}
    assert not posted & refused
    for one, other in pairwise(batch):
        if one.terms.batch_id is not None and one.terms.batch_id == other.terms.batch_id:
            assert (one.id in posted) == (other.id in posted)


@given(rich_worlds(), instructions())
def test_never_more_is_reversed_than_was_posted(world: World, batch: list[Instruction]) -> None:
    posting = _posted(world, batch)
    amounts = {one.transaction_id: one.amount for one in posting.posted}
    reversed_by: dict[UUID, int] = defaultdict(int)
    for one in posting.posted:
        reverses = one.instruction.terms.reverses
        if reverses is not None and one.amount is not None:
            reversed_by[reverses] += one.amount

    for transaction_id, total in reversed_by.items():
        whole = amounts[transaction_id]
        assert whole is not None
        assert total <= whole
        assert (transaction_id in posting.reversed) == (total == whole)
