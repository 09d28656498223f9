"""What wraps the views: pages of lists, batches, results, health, and operators' dead letters."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from contracts.dead_letters import BodyEncoding, DeadLetterFate, DeadLetterState
from contracts.messages import DeadLetterReason, RequestedTransaction
from contracts.problems import Problem
from contracts.representations.event import TransactionEvent
from contracts.representations.transaction import Failure, Timestamp, Transaction, WalletAfter
from contracts.representations.wallet import Wallet, WalletEntry, WalletHold
from contracts.requests.terms import TransactionRequest
from contracts.requests.transaction import BATCH_MAX, BatchMode
from ledger.words import TransactionStatus

PAGE_LIMIT_DEFAULT: Final = 50
PAGE_LIMIT_MAX: Final = 200
"""The most items of one page: it keeps an answer well under a megabyte."""
CURSOR_MAX: Final = 512
"""Characters; longer text was not made by a list."""

Cursor = Annotated[
    str,
    Field(
        max_length=CURSOR_MAX,
        description="Opaque: pass it back as `cursor`, with the same filters, for what follows",
        examples=["eyJhZnRlciI6IjAxOTNhZGJjIn0"],
    ),
]
NextCursor = Annotated[Cursor | None, Field(description="null when nothing follows")]


class WalletPage(BaseModel):
    """Wallets, the oldest first."""

    items: list[Wallet]
    next_cursor: NextCursor


class WalletEntryPage(BaseModel):
    """A wallet's entries, the newest first."""

    items: list[WalletEntry]
    next_cursor: NextCursor


class WalletHoldPage(BaseModel):
    """A wallet and its holds, both as they are at one instant."""

    wallet: Wallet
    items: list[WalletHold]
    next_cursor: NextCursor


class EventPage(BaseModel):
    """Events, the oldest first."""

    items: list[TransactionEvent]
    next_cursor: NextCursor = Field(
        description="Pass it as `after` for what follows; null when nothing does yet"
    )
    last_id: str | None = Field(
        description=(
            "The last event that was looked at: pass it as `after`, or as `Last-Event-ID`, to go "
            "on from there at any time. null while nothing was ever kept"
        )
    )
    reset: bool = Field(
        description=(
            "Whether `after` is not kept, so that events may be missing; the items are then the "
            "oldest that are kept"
        )
    )


class TransactionPage(BaseModel):
    """Transactions, the newest first."""

    items: list[Transaction]
    next_cursor: NextCursor


class TransactionBatchRequest(BaseModel):
    """Many transactions of one request: each stands and falls by itself, or all do together."""

    model_config = ConfigDict(extra="forbid")

    mode: BatchMode = Field(
        default=BatchMode.INDEPENDENT,
        description=(
            "`independent`: one bad item never fails the others. `atomic`: one invalid item "
            "refuses the whole request, and all are posted in one commit, or all are FAILED"
        ),
    )
    transactions: list[RequestedTransaction] = Field(min_length=1, max_length=BATCH_MAX)


class AcceptedItem(BaseModel):
    """An item that was accepted (202) or replayed (200)."""

    model_config = ConfigDict(extra="forbid")

    status_code: int = Field(description="202, or 200 for a replay", examples=[202])
    transaction: Transaction


class RefusedItem(BaseModel):
    """An item that was not accepted, and the problem that a single submission would have met."""

    model_config = ConfigDict(extra="forbid")

    status_code: int = Field(description="The status of the problem", examples=[422])
    problem: Problem


class TransactionBatchResult(BaseModel):
    """An item for each transaction of the request, in the same order."""

    items: list[AcceptedItem | RefusedItem]


class PreviewBatch(BaseModel):
    """A batch request whose transactions need no keys."""

    model_config = ConfigDict(extra="forbid")

    mode: BatchMode = BatchMode.INDEPENDENT
    transactions: list[TransactionRequest] = Field(min_length=1, max_length=BATCH_MAX)


class PreviewRequest(RootModel[TransactionRequest | PreviewBatch]):
    """One transaction or a batch of them, as they would be submitted."""


class PreviewedTransaction(BaseModel):
    """What a transaction would come to if it were posted now."""

    status: Literal[TransactionStatus.COMPLETED, TransactionStatus.FAILED]
    failure: Failure | None


class TransactionPreview(BaseModel):
    """What posting these transactions now would do."""

    transactions: list[PreviewedTransaction] = Field(description="In the order of the request")
    wallets: list[WalletAfter] = Field(
        description="The customers' and internal wallets that they name, as they would be then"
    )


class Liveness(BaseModel):
    """The process answers; nothing is said of its dependencies."""

    status: Literal["live"]


class ReadinessStatus(StrEnum):
    """DEGRADED still serves every call: without the broker, posting waits for the reconciler."""

    READY = "ready"
    DEGRADED = "degraded"
    NOT_READY = "not_ready"


class DependencyState(StrEnum):
    """Whether the last probe of a dependency succeeded."""

    UP = "up"
    DOWN = "down"


class Dependency(BaseModel):
    """What the last probe of one dependency found."""

    state: DependencyState
    detail: str | None = Field(default=None, description="Why it is down")


class Readiness(BaseModel):
    """Whether the process can do its work, and with which of its dependencies."""

    status: ReadinessStatus
    dependencies: dict[str, Dependency] = Field(
        description="`database`, `broker` and `redis`, by name"
    )


class DeadLetter(BaseModel):
    """A message that could not be processed."""

    id: UUID
    state: DeadLetterState
    queue: str
    reason: DeadLetterReason
    detail: str
    fingerprint: str = Field(
        description="Equal for dead letters that say the same about different values"
    )
    body: str = Field(description="The message's body, or the beginning of a long one")
    body_encoding: BodyEncoding = Field(description="`base64` for a body that is not UTF-8")
    body_bytes: int = Field(description="The size of the whole body")
    is_body_whole: bool = Field(description="Whether `body` is all of it")
    headers: dict[str, Any]
    submitter: str | None
    transaction_id: UUID | None
    first_seen_at: Timestamp
    replayed_at: Timestamp | None
    discarded_at: Timestamp | None


class DeadLetterPage(BaseModel):
    """Dead letters, the newest first."""

    items: list[DeadLetter]
    next_cursor: NextCursor


class DeadLetterSummary(BaseModel):
    """How many dead letters there are, grouped by reason."""

    by_reason: dict[DeadLetterReason, int] = Field(description="Reasons without any are left out")
    is_complete: bool = Field(description="false when older dead letters were not counted")


class DeadLetterGroup(BaseModel):
    """Dead letters of one reason that say the same about different values."""

    reason: DeadLetterReason
    fingerprint: str
    detail: str = Field(description="What one of them says")
    dead_letters: int = Field(description="How many they are")
    first_seen_at: Timestamp = Field(description="When the first of them came")
    last_seen_at: Timestamp = Field(description="When the last of them came")
    by_hour: list[int] = Field(
        description="How many came in each of the last 24 hours, the newest at the end"
    )


class DeadLetterGroups(BaseModel):
    """The groups, the largest first."""

    items: list[DeadLetterGroup]
    is_complete: bool = Field(
        description="false when older dead letters were not counted, or small groups left out"
    )


class DeadLetterOutcome(BaseModel):
    """What became of one dead letter, or with `dry_run` would become of it."""

    id: UUID
    outcome: DeadLetterFate
    detail: str
    transaction_ids: list[UUID] = Field(
        description="Replayed: the message's transactions. Discarded: the one that became FAILED"
    )


class DeadLetterOutcomes(BaseModel):
    """What became of many, in the order in which they arrived."""

    dry_run: bool = Field(description="true: nothing was changed")
    counts: dict[DeadLetterFate, int]
    items: list[DeadLetterOutcome]
    next_cursor: NextCursor


class TransactionResultMessage(BaseModel):
    """The body of `transaction.result.v1`, sent to the `reply_to` of an upstream message."""

    version: Literal[1]
    transactions: list[Transaction] = Field(
        description="Those of the message that are recorded, in its order, as they are now"
    )
