"""The words that the rules speak of: types, statuses, kinds, and why a transaction fails."""

from enum import StrEnum
from typing import Final

MINOR_MAX: Final = 2**63 - 1
"""The largest balance, in minor units: what PostgreSQL's bigint holds."""


class TransactionType(StrEnum):
    """What a transaction does."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRANSFER = "transfer"
    REVERSAL = "reversal"
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    JOURNAL = "journal"


PLAIN_TYPES: Final = frozenset(
    {TransactionType.DEPOSIT, TransactionType.WITHDRAWAL, TransactionType.TRANSFER}
)
"""What moves an amount from one wallet to another and, where it has no terms, nothing else."""


class TransactionStatus(StrEnum):
    """Where a transaction stands. COMPLETED, FAILED and REVERSED never go back."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REVERSED = "REVERSED"
    QUARANTINED = "QUARANTINED"


FINAL_STATUSES: Final = frozenset(
    {TransactionStatus.COMPLETED, TransactionStatus.FAILED, TransactionStatus.REVERSED}
)


class FailureCode(StrEnum):
    """Why a transaction FAILED."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    WALLET_NOT_FOUND = "wallet_not_found"
    WALLET_FROZEN = "wallet_frozen"
    WALLET_CLOSED = "wallet_closed"
    CURRENCY_MISMATCH = "currency_mismatch"
    SAME_WALLET = "same_wallet"
    NOT_PERMITTED = "not_permitted"
    LIMIT_EXCEEDED = "limit_exceeded"
    DISCARDED = "discarded"
    EXPIRED = "expired"
    CONDITION_FAILED = "condition_failed"
    CANCELLED = "cancelled"
    BATCH_FAILED = "batch_failed"
    TRANSACTION_NOT_FOUND = "transaction_not_found"
    NOT_REVERSIBLE = "not_reversible"
    ALREADY_REVERSED = "already_reversed"
    AMOUNT_EXCEEDS_REVERSIBLE = "amount_exceeds_reversible"
    HOLD_NOT_FOUND = "hold_not_found"
    HOLD_CLOSED = "hold_closed"
    HOLD_EXPIRED = "hold_expired"
    AMOUNT_EXCEEDS_HOLD = "amount_exceeds_hold"
    RULE_REFUSED = "rule_refused"


class HoldStatus(StrEnum):
    """Where a posted hold stands; only an OPEN one holds money, and only until it expires."""

    OPEN = "OPEN"
    CAPTURED = "CAPTURED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class WalletStatus(StrEnum):
    """A FROZEN wallet moves no money either way; a CLOSED one never will again."""

    ACTIVE = "ACTIVE"
    FROZEN = "FROZEN"
    CLOSED = "CLOSED"


class WalletKind(StrEnum):
    """Customers' wallets, the house's own, and one external wallet a currency: the world outside.

    An INTERNAL wallet (fees, suspense, exchange) is like a customer's, but never lacks funds.
    """

    CUSTOMER = "customer"
    INTERNAL = "internal"
    EXTERNAL = "external"


class RuleKind(StrEnum):
    """What a rule looks at."""

    VELOCITY = "velocity"
    """How many transactions, or how much money, in a window of time."""
    AMOUNT = "amount"
    """The amount of one transaction."""
    FIRST_DESTINATION = "first_destination"
    """Whether one wallet has ever paid the other."""


class RuleAction(StrEnum):
    """What becomes of a transaction that a rule hits."""

    REFUSE = "refuse"
    FLAG = "flag"
    """It is posted, and noted."""
    REVIEW = "review"
    """It stays PENDING until an operator has approved or refused it."""


class RuleSubject(StrEnum):
    """What a velocity rule counts by."""

    WALLET = "wallet"
    OWNER = "owner"
    CLIENT = "client"
    TYPE = "type"


class ReviewState(StrEnum):
    """Where a review stands; one that is decided never opens again."""

    OPEN = "OPEN"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
