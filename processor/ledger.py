"""The ledger: the one place that decides what happens to money. Pure: values in, values out.

Transactions are decided in their order, each against the balances that the ones before it left. A
batch is therefore the same as its transactions one by one.

Order of precedence of the refusals (the first that applies is the answer): same_wallet,
wallet_not_found, not_permitted, currency_mismatch, wallet_closed, wallet_frozen, limit_exceeded,
insufficient_funds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from contracts.money import MINOR_MAX
from contracts.transactions import FailureCode, TransactionType
from contracts.wallets import WalletKind, WalletStatus


@dataclass(slots=True)
class Wallet:
    """A wallet as the ledger sees it; amounts in minor units, `version` counts its entries."""

    id: UUID
    kind: WalletKind
    currency: str
    status: WalletStatus
    balance: int
    held: int
    overdraft_limit: int
    version: int

    @property
    def available(self) -> int:
        """What may be spent, in minor units."""
        return self.balance - self.held + self.overdraft_limit


class PendingTransaction(NamedTuple):
    """A transaction to post: `amount` minor units leave the source and reach the destination."""

    id: UUID
    type: TransactionType
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    currency: str


class Entry(NamedTuple):
    """One signed leg of a transaction on one wallet, in minor units."""

    wallet_id: UUID
    sequence: int
    transaction_id: UUID
    amount: int
    balance_after: int


class Posted(NamedTuple):
    """A transaction that became two entries: the number and the balance that each wallet got."""

    transaction_id: UUID
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    source_sequence: int
    destination_sequence: int
    source_balance: int
    destination_balance: int

    @property
    def entries(self) -> tuple[Entry, Entry]:
        """The debit and the credit."""
        return (
            Entry(
                self.source_wallet_id,
                self.source_sequence,
                self.transaction_id,
                -self.amount,
                self.source_balance,
            ),
            Entry(
                self.destination_wallet_id,
                self.destination_sequence,
                self.transaction_id,
                self.amount,
                self.destination_balance,
            ),
        )


class Refused(NamedTuple):
    """A transaction that the rules refuse: it ends as FAILED with this code."""

    transaction_id: UUID
    code: FailureCode


@dataclass(frozen=True, slots=True)
class Posting:
    """What a batch comes to: everything that has to be written, and nothing else."""

    posted: list[Posted]
    refused: list[Refused]
    wallets: list[Wallet]

    @property
    def entries(self) -> list[Entry]:
        """Both legs of everything posted, in order."""
        return [entry for one in self.posted for entry in one.entries]


REFUSAL_DETAILS: Final[Mapping[FailureCode, str]] = {
    FailureCode.SAME_WALLET: "source and destination are the same wallet",
    FailureCode.WALLET_NOT_FOUND: "a wallet of the transaction does not exist",
    FailureCode.NOT_PERMITTED: "an external wallet takes part in deposits and withdrawals only",
    FailureCode.CURRENCY_MISMATCH: "the transaction's currency is not the wallet's",
    FailureCode.WALLET_CLOSED: "a wallet of the transaction is closed",
    FailureCode.WALLET_FROZEN: "a wallet of the transaction is frozen",
    FailureCode.LIMIT_EXCEEDED: "a balance would leave 64 bits of minor units",
    FailureCode.INSUFFICIENT_FUNDS: "the source wallet's available balance is less than the amount",
}
"""What a client reads beside the code: the reason, and no balance."""

_CUSTOMER: Final = WalletKind.CUSTOMER
_ACTIVE: Final = WalletStatus.ACTIVE
_OUTSIDE_SOURCE: Final = frozenset({TransactionType.DEPOSIT, TransactionType.REVERSAL})
_OUTSIDE_DESTINATION: Final = frozenset({TransactionType.WITHDRAWAL, TransactionType.REVERSAL})


def post(wallets: Iterable[Wallet], transactions: Sequence[PendingTransaction]) -> Posting:
    """Return what posting these transactions in this order does to these wallets.

    `wallets` are all that exist of those named; they are left as they are. Posting a transaction
    twice in one call is the caller's fault and is not detected here: a locked PENDING row is.
    """
    before = {wallet.id: wallet for wallet in wallets}
    after: dict[UUID, Wallet] = {}
    posting = Posting(posted=[], refused=[], wallets=[])
    for transaction in transactions:
        source = _current(transaction.source_wallet_id, before, after)
        destination = _current(transaction.destination_wallet_id, before, after)
        code = _refusal(transaction, source, destination)
        if code is not None or source is None or destination is None:
            posting.refused.append(Refused(transaction.id, code or FailureCode.WALLET_NOT_FOUND))
            continue
        posting.posted.append(_move(transaction, source, destination))
        after[source.id] = source
        after[destination.id] = destination
    posting.wallets.extend(after.values())
    return posting


def _current(
    wallet_id: UUID, before: Mapping[UUID, Wallet], after: Mapping[UUID, Wallet]
) -> Wallet | None:
    """Return the wallet as the batch has left it so far: a copy, where it was not yet changed."""
    changed = after.get(wallet_id)
    if changed is not None:
        return changed
    wallet = before.get(wallet_id)
    if wallet is None:
        return None
    return Wallet(
        wallet.id,
        wallet.kind,
        wallet.currency,
        wallet.status,
        wallet.balance,
        wallet.held,
        wallet.overdraft_limit,
        wallet.version,
    )


def _refusal(
    transaction: PendingTransaction, source: Wallet | None, destination: Wallet | None
) -> FailureCode | None:
    """Return the refusal that applies, if one does; the common case is decided first."""
    if source is None or destination is None:
        return _special_refusal(transaction, source, destination)
    if not _is_plain(transaction.currency, source, destination):
        special = _special_refusal(transaction, source, destination)
        if special is not None:
            return special
    return _money_refusal(transaction.amount, source, destination)


def _is_plain(currency: str, source: Wallet, destination: Wallet) -> bool:
    """Whether nothing but the amount can stand against it: two active customers, one currency."""
    return (
        source.id != destination.id
        and source.kind is _CUSTOMER
        and destination.kind is _CUSTOMER
        and source.status is _ACTIVE
        and destination.status is _ACTIVE
        and source.currency == currency
        and destination.currency == currency
    )


def _special_refusal(
    transaction: PendingTransaction, source: Wallet | None, destination: Wallet | None
) -> FailureCode | None:
    """Return the refusal that has nothing to do with the amount."""
    if transaction.source_wallet_id == transaction.destination_wallet_id:
        return FailureCode.SAME_WALLET
    if _is_missing(source, destination, transaction.type):
        return FailureCode.WALLET_NOT_FOUND
    named = [wallet for wallet in (source, destination) if wallet is not None]
    if _is_outside(source) and transaction.type not in _OUTSIDE_SOURCE:
        return FailureCode.NOT_PERMITTED
    if _is_outside(destination) and transaction.type not in _OUTSIDE_DESTINATION:
        return FailureCode.NOT_PERMITTED
    if any(wallet.currency != transaction.currency for wallet in named):
        return FailureCode.CURRENCY_MISMATCH
    if any(wallet.status is WalletStatus.CLOSED for wallet in named):
        return FailureCode.WALLET_CLOSED
    if any(wallet.status is WalletStatus.FROZEN for wallet in named):
        return FailureCode.WALLET_FROZEN
    if source is None or destination is None:
        return FailureCode.WALLET_NOT_FOUND
    return None


def _is_missing(source: Wallet | None, destination: Wallet | None, kind: TransactionType) -> bool:
    """Whether a wallet that the client named is missing.

    A missing external wallet means that no wallet has this currency: the one that the client named
    has another, and that is the better answer.
    """
    if kind is TransactionType.DEPOSIT:
        return destination is None
    if kind is TransactionType.WITHDRAWAL:
        return source is None
    return source is None or destination is None


def _is_outside(wallet: Wallet | None) -> bool:
    return wallet is not None and wallet.kind is WalletKind.EXTERNAL


def _money_refusal(amount: int, source: Wallet, destination: Wallet) -> FailureCode | None:
    if destination.balance + amount > MINOR_MAX or source.balance - amount < -MINOR_MAX:
        return FailureCode.LIMIT_EXCEEDED
    if source.kind is _CUSTOMER and source.available < amount:
        return FailureCode.INSUFFICIENT_FUNDS
    return None


def _move(transaction: PendingTransaction, source: Wallet, destination: Wallet) -> Posted:
    amount = transaction.amount
    source.balance -= amount
    source.version += 1
    destination.balance += amount
    destination.version += 1
    return Posted(
        transaction.id,
        source.id,
        destination.id,
        amount,
        source.version,
        destination.version,
        source.balance,
        destination.balance,
    )
