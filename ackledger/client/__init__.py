"""The client of Ackledger for Python: money moved over HTTP or AMQP, events followed and verified.

`Client` and `Publisher` wait for each answer, `AsyncClient` and `AsyncPublisher` are for asyncio.
docs/client.md shows them at work.
"""

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.blocking import Client, Publisher
from ackledger.client.errors import (
    AckledgerError,
    BrokerRefusedError,
    ConflictError,
    ForbiddenError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotFoundError,
    Problem,
    ProblemError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    UnroutableError,
    WaitTimeoutError,
    WebhookVerificationError,
)
from ackledger.client.events import Followed, Reset
from ackledger.client.publishing import AsyncPublisher
from ackledger.client.requests import (
    Capture,
    Condition,
    Deposit,
    Hold,
    Journal,
    Leg,
    Release,
    Reversal,
    TransactionRequest,
    Transfer,
    Withdrawal,
    new_key,
)
from ackledger.client.session import Answer
from ackledger.client.webhooks import verify_webhook
from contracts.representations.event import TransactionEvent
from contracts.representations.pages import PreviewedTransaction, TransactionPreview
from contracts.representations.transaction import (
    Failure,
    Transaction,
    TransactionEntry,
    TransactionLeg,
    WalletAfter,
)
from contracts.representations.transaction import Hold as HoldState
from contracts.representations.wallet import Balance, Wallet, WalletEntry, WalletHold
from ledger.words import FailureCode, HoldStatus, TransactionStatus, TransactionType, WalletStatus

__all__ = [
    "AckledgerError",
    "Answer",
    "AsyncClient",
    "AsyncPublisher",
    "Balance",
    "BrokerRefusedError",
    "Capture",
    "Client",
    "Condition",
    "ConflictError",
    "Deposit",
    "Failure",
    "FailureCode",
    "Followed",
    "ForbiddenError",
    "Hold",
    "HoldState",
    "HoldStatus",
    "IdempotencyKeyReusedError",
    "InvalidRequestError",
    "Journal",
    "Leg",
    "NotFoundError",
    "PreviewedTransaction",
    "Problem",
    "ProblemError",
    "Publisher",
    "RateLimitedError",
    "Release",
    "Reset",
    "Reversal",
    "Transaction",
    "TransactionEntry",
    "TransactionEvent",
    "TransactionLeg",
    "TransactionPreview",
    "TransactionRequest",
    "TransactionStatus",
    "TransactionType",
    "Transfer",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "UnroutableError",
    "WaitTimeoutError",
    "Wallet",
    "WalletAfter",
    "WalletEntry",
    "WalletHold",
    "WalletStatus",
    "WebhookVerificationError",
    "Withdrawal",
    "new_key",
    "verify_webhook",
]
