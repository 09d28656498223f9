"""The rules of money, for every small world that Hypothesis can think of."""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy

from hypothesis import given

from ledger.post import first_refusal, post, refusal_of
from ledger.state import LedgerWallet, Movement, Posting
from ledger.words import MINOR_MAX, FailureCode, WalletKind
from tests.property.strategies import transactions, worlds


def _after(before: Sequence[LedgerWallet], posting: Posting) -> list[LedgerWallet]:
    changed = {wallet.id: wallet for wallet in posting.wallets}
    return [changed.get(wallet.id, wallet) for wallet in before]


@given(worlds(), transactions())
def test_a_batch_equals_its_transactions_one_by_one(
    wallets: list[LedgerWallet], batch: list[Movement]
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
    wallets: list[LedgerWallet], first: list[Movement], second: list[Movement]
) -> None:
    whole = post(wallets, first + second)

    head = post(wallets, first)
    tail = post(_after(wallets, head), second)

    assert whole.entries == head.entries + tail.entries


@given(worlds(), transactions())
def test_money_is_conserved_in_each_currency(
    wallets: list[LedgerWallet], batch: list[Movement]
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
    wallets: list[LedgerWallet], batch: list[Movement]
) -> None:
    for wallet in post(wallets, batch).wallets:
        assert wallet.kind is not WalletKind.CUSTOMER or wallet.available >= 0
        assert -MINOR_MAX <= wallet.balance <= MINOR_MAX


@given(worlds(), transactions())
def test_only_a_customer_lacks_funds(wallets: list[LedgerWallet], batch: list[Movement]) -> None:
    kind_of = {wallet.id: wallet.kind for wallet in wallets}
    source_of = {transaction.id: transaction.source_wallet_id for transaction in batch}
    for refused in post(wallets, batch).refused:
        if refused.code is FailureCode.INSUFFICIENT_FUNDS:
            assert kind_of[source_of[refused.transaction_id]] is WalletKind.CUSTOMER


@given(worlds(), transactions())
def test_every_transaction_is_either_posted_with_two_legs_or_refused_with_none(
    wallets: list[LedgerWallet], batch: list[Movement]
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
    wallets: list[LedgerWallet], batch: list[Movement]
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
    wallets: list[LedgerWallet], batch: list[Movement]
) -> None:
    before = deepcopy(wallets)

    first = post(wallets, batch)

    assert wallets == before
    assert post(wallets, batch) == first


@given(worlds(), transactions())
def test_the_fast_path_answers_what_the_ladder_answers(
    wallets: list[LedgerWallet], batch: list[Movement]
) -> None:
    by_id = {wallet.id: wallet for wallet in wallets}
    for movement in batch:
        legs = by_id.get(movement.source_wallet_id), by_id.get(movement.destination_wallet_id)

        assert refusal_of(movement, *legs) is first_refusal(movement, *legs)
