"""The refusals as a table that a domain expert can read."""

from dataclasses import replace
from uuid import UUID

import pytest

from contracts.money import MINOR_MAX
from contracts.transactions import FailureCode, TransactionType
from contracts.wallets import WalletKind, WalletStatus
from processor.ledger import REFUSAL_DETAILS, PendingTransaction, Wallet, post

ALICE, BOB, EURO, FROZEN, CLOSED, FULL, OUTSIDE, OUTSIDE_EUR, NOBODY = (
    UUID(int=n) for n in range(1, 10)
)

_PLAIN = Wallet(
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
]

DEPOSIT, WITHDRAWAL, TRANSFER = (
    TransactionType.DEPOSIT,
    TransactionType.WITHDRAWAL,
    TransactionType.TRANSFER,
)


def _one(
    kind: TransactionType, source: UUID, destination: UUID, minor: int, currency: str = "USD"
) -> PendingTransaction:
    return PendingTransaction(UUID(int=77), kind, source, destination, minor, currency)


@pytest.mark.parametrize(
    ("transaction", "refusal"),
    [
        (_one(TRANSFER, ALICE, BOB, 95), None),
        (_one(TRANSFER, ALICE, BOB, 96), FailureCode.INSUFFICIENT_FUNDS),
        (_one(WITHDRAWAL, ALICE, OUTSIDE, 95), None),
        (_one(WITHDRAWAL, BOB, OUTSIDE, 1), FailureCode.INSUFFICIENT_FUNDS),
        (_one(DEPOSIT, OUTSIDE, BOB, 10**15), None),
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
    transaction: PendingTransaction, refusal: FailureCode | None
) -> None:
    posting = post(WALLETS, [transaction])

    assert [one.code for one in posting.refused] == ([] if refusal is None else [refusal])
    assert len(posting.posted) == (refusal is None)
    assert bool(posting.entries) == (refusal is None)


def test_what_one_transaction_brings_the_next_may_spend() -> None:
    posting = post(WALLETS, [_one(TRANSFER, ALICE, BOB, 40), _one(TRANSFER, BOB, ALICE, 40)])

    assert [(e.wallet_id, e.sequence, e.amount, e.balance_after) for e in posting.entries] == [
        (ALICE, 4, -40, 60),
        (BOB, 1, 40, 40),
        (BOB, 2, -40, 0),
        (ALICE, 5, 40, 100),
    ]


def test_every_refusal_of_the_ledger_has_its_explanation() -> None:
    given_by_others = {FailureCode.DISCARDED, FailureCode.EXPIRED}

    assert set(REFUSAL_DETAILS) == set(FailureCode) - given_by_others
