"""What the ledger decides on, and what it decides: wallets, movements, entries."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from ledger.words import FailureCode, TransactionType, WalletKind, WalletStatus


@dataclass(slots=True)
class LedgerWallet:
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


class Movement(NamedTuple):
    """A transaction to decide: `amount` minor units leave the source and reach the destination."""

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
    wallets: list[LedgerWallet]

    @property
    def entries(self) -> list[Entry]:
        """Both legs of everything posted, in order."""
        return [entry for one in self.posted for entry in one.entries]
