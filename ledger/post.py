"""Posting: the one place that decides what happens to money. Pure: values in, values out.

Transactions are decided in their order, each against the balances that the ones before it left. A
batch is therefore the same as its transactions one by one.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from ledger.rules import refusal_of
from ledger.state import LedgerWallet, Movement, Posted, Posting, Refused
from ledger.words import FailureCode


def post(wallets: Iterable[LedgerWallet], movements: Sequence[Movement]) -> Posting:
    """Return what posting these transactions in this order does to these wallets.

    `wallets` are all that exist of those named; they are left as they are. Posting a transaction
    twice in one call is the caller's fault and is not detected here: a locked PENDING row is.
    """
    before = {wallet.id: wallet for wallet in wallets}
    after: dict[UUID, LedgerWallet] = {}
    posting = Posting(posted=[], refused=[], wallets=[])
    for movement in movements:
        source = _current(movement.source_wallet_id, before, after)
        destination = _current(movement.destination_wallet_id, before, after)
        code = refusal_of(movement, source, destination)
        if code is not None or source is None or destination is None:
            posting.refused.append(Refused(movement.id, code or FailureCode.WALLET_NOT_FOUND))
            continue
        posting.posted.append(_move(movement, source, destination))
        after[source.id] = source
        after[destination.id] = destination
    posting.wallets.extend(after.values())
    return posting


def _current(
    wallet_id: UUID, before: Mapping[UUID, LedgerWallet], after: Mapping[UUID, LedgerWallet]
) -> LedgerWallet | None:
    """Return the wallet as the batch has left it so far: a copy, where it was not yet changed."""
    changed = after.get(wallet_id)
    if changed is not None:
        return changed
    wallet = before.get(wallet_id)
    if wallet is None:
        return None
    return LedgerWallet(
        wallet.id,
        wallet.kind,
        wallet.currency,
        wallet.status,
        wallet.balance,
        wallet.held,
        wallet.overdraft_limit,
        wallet.version,
    )


def _move(movement: Movement, source: LedgerWallet, destination: LedgerWallet) -> Posted:
    amount = movement.amount
    source.balance -= amount
    source.version += 1
    destination.balance += amount
    destination.version += 1
    return Posted(
        movement.id,
        source.id,
        destination.id,
        amount,
        source.version,
        destination.version,
        source.balance,
        destination.balance,
    )
