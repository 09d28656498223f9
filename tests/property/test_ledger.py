"""The rules of money, for every small world that Hypothesis can think of."""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy

from hypothesis import given

from contracts.money import MINOR_MAX
from contracts.wallets import WalletKind
from processor.ledger import PendingTransaction, Posting, Wallet, post
from tests.property.strategies import transactions, worlds


def _after(before: Sequence[Wallet], posting: Posting) -> list[Wallet]:
    changed = {wallet.id: wallet for wallet in posting.wallets}
    return [changed.get(wallet.id, wallet) for wallet in before]


@given(worlds(), transactions())
def test_a_batch_equals_its_transactions_one_by_one(
    wallets: list[Wallet], batch: list[PendingTransaction]
) -> None:
    at_once = post(wallets, batch)

    current = wallets
    posted, refused, entries = [], [], []
    for transaction in batch:
        step = post(current, [transaction])
        current = _after(current, step)
        posted += step.posted
        refused += step.refused
        entries += step.entries

    assert (posted, refused, entries) == (at_once.posted, at_once.refused, at_once.entries)
    assert current == _after(wallets, at_once)


@given(worlds(), transactions(), transactions())
def test_a_batch_may_be_cut_anywhere(
    wallets: list[Wallet], first: list[PendingTransaction], second: list[PendingTransaction]
) -> None:
    whole = post(wallets, first + second)

    head = post(wallets, first)
    tail = post(_after(wallets, head), second)

    assert whole.entries == head.entries + tail.entries


@given(worlds(), transactions())
def test_money_is_conserved_in_each_currency(
    wallets: list[Wallet], batch: list[PendingTransaction]
) -> None:
    posting = post(wallets, batch)

    currency_of = {wallet.id: wallet.currency for wallet in wallets}
    sums: dict[str, int] = defaultdict(int)
    for entry in posting.entries:
        sums[currency_of[entry.wallet_id]] += entry.amount

    assert all(total == 0 for total in sums.values())
    assert sum(w.balance for w in wallets) == sum(w.balance for w in _after(wallets, posting))


@given(worlds(), transactions())
def test_no_customer_falls_below_the_limit_and_no_balance_leaves_64_bits(
    wallets: list[Wallet], batch: list[PendingTransaction]
) -> None:
    for wallet in post(wallets, batch).wallets:
        assert wallet.kind is WalletKind.EXTERNAL or wallet.available >= 0
        assert -MINOR_MAX <= wallet.balance <= MINOR_MAX


@given(worlds(), transactions())
def test_every_transaction_is_either_posted_with_two_legs_or_refused_with_none(
    wallets: list[Wallet], batch: list[PendingTransaction]
) -> None:
    posting = post(wallets, batch)

    legs: dict[object, list[int]] = defaultdict(list)
    for entry in posting.entries:
        legs[entry.transaction_id].append(entry.amount)
    amount_of = {transaction.id: transaction.amount for transaction in batch}

    assert [t.id for t in batch] == sorted(
        [p.transaction_id for p in posting.posted] + [r.transaction_id for r in posting.refused]
    )
    assert {p.transaction_id for p in posting.posted} == set(legs)
    for transaction_id, amounts in legs.items():
        assert amounts == [-amount_of[transaction_id], amount_of[transaction_id]]  # type: ignore[index]


@given(worlds(), transactions())
def test_sequences_continue_without_a_gap_and_balances_follow_their_entries(
    wallets: list[Wallet], batch: list[PendingTransaction]
) -> None:
    posting = post(wallets, batch)

    current = {wallet.id: (wallet.version, wallet.balance) for wallet in wallets}
    for entry in posting.entries:
        version, balance = current[entry.wallet_id]
        assert entry.sequence == version + 1
        assert entry.balance_after == balance + entry.amount
        current[entry.wallet_id] = (entry.sequence, entry.balance_after)

    assert {w.id: (w.version, w.balance) for w in _after(wallets, posting)} == current


@given(worlds(), transactions())
def test_deciding_leaves_its_input_as_it_was(
    wallets: list[Wallet], batch: list[PendingTransaction]
) -> None:
    before = deepcopy(wallets)

    first = post(wallets, batch)

    assert wallets == before
    assert post(wallets, batch) == first
