"""The refusals as a table that a domain expert can read."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, takewhile
from typing import Any
from uuid import UUID

import pytest

from ledger.post import REFUSAL_DETAILS, post
from ledger.state import LedgerWallet, Movement
from ledger.words import MINOR_MAX, FailureCode, TransactionType, WalletKind, WalletStatus

ALICE, BOB, EURO, FROZEN, CLOSED, FULL, OUTSIDE, OUTSIDE_EUR, NOBODY, FEES, EMPTIED = (
    UUID(int=n) for n in range(1, 12)
)

_PLAIN = LedgerWallet(
    ALICE,
    WalletKind.CUSTOMER,
    "USD",
    WalletStatus.ACTIVE,
    100,
    held=10,
    overdraft_limit=5,
    version=3,
)
WALLETS = [
    _PLAIN,
    replace(_PLAIN, id=BOB, balance=0, held=0, overdraft_limit=0, version=0),
    replace(_PLAIN, id=EURO, currency="EUR"),
    replace(_PLAIN, id=FROZEN, status=WalletStatus.FROZEN),
    replace(_PLAIN, id=CLOSED, status=WalletStatus.CLOSED, balance=0, held=0),
    replace(_PLAIN, id=FULL, balance=MINOR_MAX),
    replace(_PLAIN, id=OUTSIDE, kind=WalletKind.EXTERNAL, balance=-500, held=0, overdraft_limit=0),
    replace(_PLAIN, id=FEES, kind=WalletKind.INTERNAL, balance=0, held=10, overdraft_limit=0),
    replace(_PLAIN, id=EMPTIED, kind=WalletKind.INTERNAL, balance=-MINOR_MAX, held=0),
]

DEPOSIT, WITHDRAWAL, TRANSFER = (
    TransactionType.DEPOSIT,
    TransactionType.WITHDRAWAL,
    TransactionType.TRANSFER,
)


def _one(
    kind: TransactionType, source: UUID, destination: UUID, minor: int, currency: str = "USD"
) -> Movement:
    return Movement(UUID(int=77), kind, source, destination, minor, currency)


@pytest.mark.parametrize(
    ("transaction", "refusal"),
    [
        (_one(TRANSFER, ALICE, BOB, 95), None),
        (_one(TRANSFER, ALICE, BOB, 96), FailureCode.INSUFFICIENT_FUNDS),
        (_one(WITHDRAWAL, ALICE, OUTSIDE, 95), None),
        (_one(WITHDRAWAL, BOB, OUTSIDE, 1), FailureCode.INSUFFICIENT_FUNDS),
        (_one(DEPOSIT, OUTSIDE, BOB, 10**15), None),
        (_one(TRANSFER, FEES, BOB, 10**15), None),
        (_one(WITHDRAWAL, FEES, OUTSIDE, 10**15), None),
        (_one(TRANSFER, ALICE, FEES, 95), None),
        (_one(TRANSFER, ALICE, FEES, 96), FailureCode.INSUFFICIENT_FUNDS),
        (_one(TRANSFER, FEES, FROZEN, 1), FailureCode.WALLET_FROZEN),
        (_one(TRANSFER, EMPTIED, BOB, 1), FailureCode.LIMIT_EXCEEDED),
        (_one(TRANSFER, ALICE, ALICE, 1), FailureCode.SAME_WALLET),
        (_one(TRANSFER, NOBODY, NOBODY, 1), FailureCode.SAME_WALLET),
        (_one(TRANSFER, ALICE, NOBODY, 1), FailureCode.WALLET_NOT_FOUND),
        (_one(TRANSFER, NOBODY, BOB, 1), FailureCode.WALLET_NOT_FOUND),
        (_one(DEPOSIT, OUTSIDE, NOBODY, 1), FailureCode.WALLET_NOT_FOUND),
        (_one(TRANSFER, OUTSIDE, BOB, 1), FailureCode.NOT_PERMITTED),
        (_one(TRANSFER, ALICE, OUTSIDE, 1), FailureCode.NOT_PERMITTED),
        (_one(DEPOSIT, OUTSIDE, OUTSIDE_EUR, 1), FailureCode.WALLET_NOT_FOUND),
        (_one(TRANSFER, ALICE, EURO, 1), FailureCode.CURRENCY_MISMATCH),
        (_one(TRANSFER, ALICE, BOB, 1, "EUR"), FailureCode.CURRENCY_MISMATCH),
        (_one(DEPOSIT, NOBODY, ALICE, 1, "JPY"), FailureCode.CURRENCY_MISMATCH),
        (_one(TRANSFER, ALICE, CLOSED, 1), FailureCode.WALLET_CLOSED),
        (_one(TRANSFER, CLOSED, FROZEN, 1), FailureCode.WALLET_CLOSED),
        (_one(TRANSFER, FROZEN, BOB, 1), FailureCode.WALLET_FROZEN),
        (_one(DEPOSIT, OUTSIDE, FROZEN, 1), FailureCode.WALLET_FROZEN),
        (_one(TRANSFER, ALICE, FULL, 1), FailureCode.LIMIT_EXCEEDED),
        (_one(DEPOSIT, OUTSIDE, BOB, MINOR_MAX), FailureCode.LIMIT_EXCEEDED),
    ],
)
def test_the_first_refusal_that_applies_is_the_answer(
    transaction: Movement, refusal: FailureCode | None
) -> None:
    posting = post(WALLETS, [transaction])

    assert [one.code for one in posting.refused] == ([] if refusal is None else [refusal])
    assert len(posting.posted) == (refusal is None)
    assert bool(posting.entries) == (refusal is None)


# The ladder, line by line: a case that violates both neighbours is refused with the upper one.
_NEIGHBOURS = [
    (_one(TRANSFER, NOBODY, NOBODY, 1), "same_wallet", "wallet_not_found"),
    (_one(TRANSFER, OUTSIDE, NOBODY, 1), "wallet_not_found", "not_permitted"),
    (_one(TRANSFER, OUTSIDE, EURO, 1), "not_permitted", "currency_mismatch"),
    (_one(TRANSFER, ALICE, CLOSED, 1, "EUR"), "currency_mismatch", "wallet_closed"),
    (_one(TRANSFER, CLOSED, FROZEN, 1), "wallet_closed", "wallet_frozen"),
    (_one(TRANSFER, FROZEN, FULL, 1), "wallet_frozen", "limit_exceeded"),
    (_one(TRANSFER, BOB, FULL, 1), "limit_exceeded", "insufficient_funds"),
]
# A wallet that does not exist stands on a second line, where it is one that nobody names.
_UNNAMED = [
    (_one(DEPOSIT, NOBODY, FROZEN, 1), "wallet_frozen", "wallet_not_found"),
    (_one(DEPOSIT, NOBODY, FULL, 1), "wallet_not_found", "limit_exceeded"),
]


def test_the_table_of_neighbours_has_every_line_of_the_ladder_in_its_order() -> None:
    last = FailureCode.INSUFFICIENT_FUNDS
    order = [code.value for code in takewhile(lambda one: one is not last, REFUSAL_DETAILS)]

    assert [(upper, lower) for _, upper, lower in _NEIGHBOURS] == list(pairwise([*order, last]))


@pytest.mark.parametrize(("movement", "upper", "lower"), [*_NEIGHBOURS, *_UNNAMED])
def test_what_violates_two_neighbouring_lines_is_refused_with_the_upper_one(
    movement: Movement, upper: str, lower: str
) -> None:
    [refused] = post(WALLETS, [movement]).refused
    mended = post(*_MENDED[upper](movement)).refused

    assert refused.code == upper
    assert [one.code for one in mended] == [lower]


# What it takes away that a line applies: the worlds in which the one below it is the answer.
_MENDED: dict[str, Callable[[Movement], tuple[list[LedgerWallet], list[Movement]]]] = {
    "same_wallet": lambda one: (WALLETS, [one._replace(source_wallet_id=ALICE)]),
    "wallet_not_found": lambda one: (_with(one), [one]),
    "not_permitted": lambda one: (_with(one, kind=WalletKind.CUSTOMER), [one]),
    "currency_mismatch": lambda one: (_with(one, currency=one.currency), [one]),
    "wallet_closed": lambda one: (_thawed(WalletStatus.CLOSED), [one]),
    "wallet_frozen": lambda one: (_thawed(WalletStatus.FROZEN), [one]),
    "limit_exceeded": lambda one: (
        [replace(wallet, balance=0, held=0, overdraft_limit=0) for wallet in WALLETS],
        [one],
    ),
}


def _thawed(status: WalletStatus) -> list[LedgerWallet]:
    return [
        replace(one, status=WalletStatus.ACTIVE) if one.status is status else one for one in WALLETS
    ]


def _with(movement: Movement, **changes: Any) -> list[LedgerWallet]:
    """Return the wallets with these changes to both of a transaction's, which exist then."""
    named = {movement.source_wallet_id, movement.destination_wallet_id}
    existing = {one.id: one for one in WALLETS}
    outside = existing[OUTSIDE]
    made = [existing.get(one, replace(outside, id=one)) for one in named]
    others = [one for one in WALLETS if one.id not in named]
    return [*others, *(replace(one, **changes) for one in made)]


def test_what_one_transaction_brings_the_next_may_spend() -> None:
    posting = post(WALLETS, [_one(TRANSFER, ALICE, BOB, 40), _one(TRANSFER, BOB, ALICE, 40)])

    assert [(e.wallet_id, e.sequence, e.amount, e.balance_after) for e in posting.entries] == [
        (ALICE, 4, -40, 60),
        (BOB, 1, 40, 40),
        (BOB, 2, -40, 0),
        (ALICE, 5, 40, 100),
    ]


def test_every_refusal_of_the_ledger_has_its_explanation() -> None:
    given_by_others = {FailureCode.DISCARDED, FailureCode.CANCELLED}

    assert set(REFUSAL_DETAILS) == set(FailureCode) - given_by_others
