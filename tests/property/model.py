"""The ledger as it should be, in memory and without a database: what the real one is held against.

Written from the contract, not from the code: it knows one wallet and one transaction at a time.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.record import Submission
from contracts.requests.transaction import TransactionCommand
from ledger.words import TransactionStatus, TransactionType, WalletStatus
from tests.property.strategies import CURRENCIES

PENDING, COMPLETED, FAILED, QUARANTINED = (
    TransactionStatus.PENDING,
    TransactionStatus.COMPLETED,
    TransactionStatus.FAILED,
    TransactionStatus.QUARANTINED,
)


@dataclass
class ModelWallet:
    """A wallet that clients name; amounts in minor units, `entries` counts what moved them."""

    currency: str
    overdraft_limit: int | None
    """None: an internal wallet's."""
    status: WalletStatus = WalletStatus.ACTIVE
    balance: int = 0
    entries: int = 0

    def lacks(self, minor: int) -> bool:
        """Whether it cannot pay so much."""
        return self.overdraft_limit is not None and self.balance + self.overdraft_limit < minor


@dataclass
class ModelTransaction:
    """What was recorded under a key; `code` says why it FAILED."""

    id: UUID
    command: TransactionCommand
    status: TransactionStatus = PENDING
    code: str | None = None


class LetterState(Enum):
    """Where a dead letter stands."""

    OPEN = auto()
    REPLAYED = auto()
    DISCARDED = auto()


@dataclass
class ModelLetter:
    """A dead letter: of a transaction in quarantine, or of submissions nobody recorded."""

    key: str | None
    submissions: Sequence[Submission]
    state: LetterState = LetterState.OPEN


@dataclass
class Snapshot:
    """What of the books can be seen, here and in the database alike.

    Wallets: balance and number of entries. Transactions by key: status and failure code. Events by
    key and type: how often they are owed.
    """

    wallets: dict[UUID, tuple[int, int]]
    transactions: dict[str, tuple[str, str | None]]
    events: Counter[tuple[str, str]]


@dataclass
class Model:
    """The books of one submitter."""

    wallets: dict[UUID, ModelWallet] = field(default_factory=dict)
    transactions: dict[str, ModelTransaction] = field(default_factory=dict)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def snapshot(self) -> Snapshot:
        """Return what can be seen of it."""
        return Snapshot(
            {one: (wallet.balance, wallet.entries) for one, wallet in self.wallets.items()},
            {key: (one.status.value, one.code) for key, one in self.transactions.items()},
            Counter(self.events),
        )

    @property
    def pending(self) -> set[UUID]:
        """The ids of what waits to be posted."""
        return {one.id for one in self.transactions.values() if one.status is PENDING}

    def is_same(self, command: TransactionCommand) -> bool:
        """Whether a recorded key stands for this content."""
        return self.transactions[command.idempotency_key].command == command

    def record(self, command: TransactionCommand, transaction_id: UUID) -> None:
        """Record a request, unless its key was used before."""
        made = ModelTransaction(transaction_id, command)
        self.transactions.setdefault(command.idempotency_key, made)

    def post(self, keys: Iterable[str]) -> None:
        """Post what of these is still PENDING, one after the other."""
        for key in keys:
            transaction = self.transactions[key]
            if transaction.status is not PENDING:
                continue
            transaction.code = self._refusal(transaction.command)
            transaction.status = COMPLETED if transaction.code is None else FAILED
            if transaction.code is None:
                self._move(transaction.command)
            self.events[key, transaction.status.value.lower()] += 1

    def quarantine(self, key: str) -> bool:
        """Set a transaction aside if it is PENDING; return whether it was."""
        transaction = self.transactions[key]
        if transaction.status is not PENDING:
            return False
        transaction.status = QUARANTINED
        self.events[key, "quarantined"] += 1
        return True

    def release(self, key: str) -> None:
        """Let a quarantined transaction be posted again."""
        if self.transactions[key].status is QUARANTINED:
            self.transactions[key].status = PENDING

    def give_up(self, key: str) -> None:
        """End a quarantined transaction."""
        transaction = self.transactions[key]
        if transaction.status is QUARANTINED:
            transaction.status, transaction.code = FAILED, "discarded"
            self.events[key, "failed"] += 1

    def _refusal(self, command: TransactionCommand) -> str | None:
        named = [one for one in (command.source_wallet_id, command.destination_wallet_id) if one]
        outside = {external_wallet_id(currency) for currency in CURRENCIES}
        # The side that is not named is the currency's external wallet.
        other_side = [external_wallet_id(command.plain_money.currency)] * (2 - len(named))
        if len({*named, *other_side}) == 1:
            return "same_wallet"
        if not set(named) <= self.wallets.keys() | outside:
            return "wallet_not_found"
        if outside & set(named):
            return "not_permitted"
        wallets = [self.wallets[one] for one in named]
        if any(wallet.currency != command.plain_money.currency for wallet in wallets):
            return "currency_mismatch"
        for status in (WalletStatus.CLOSED, WalletStatus.FROZEN):
            if any(wallet.status is status for wallet in wallets):
                return f"wallet_{status.value.lower()}"
        if command.type is not TransactionType.DEPOSIT:
            source = wallets[0]
            if source.lacks(command.plain_money.minor):
                return "insufficient_funds"
        return None

    def _move(self, command: TransactionCommand) -> None:
        legs = ((command.source_wallet_id, -1), (command.destination_wallet_id, 1))
        for wallet_id, sign in legs:
            if wallet_id is not None:
                self.wallets[wallet_id].balance += sign * command.plain_money.minor
                self.wallets[wallet_id].entries += 1
