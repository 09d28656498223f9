"""Transactions as JSON, the same over HTTP, in results and in events; pure.

The models give the documents their schemas. `render_transaction` builds the same shape from a
database row: it runs for every read, where a model a row costs too much. A submission that was
recorded just now is written out by `new_view`, not read.
"""

import functools
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Annotated, Any, Final, Protocol, TypeAlias, TypeVar
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.record import RecordedRow, Submission, recorded_wallets
from contracts.requests.terms import RequestedTerms
from contracts.requests.transaction import Channel
from ledger.state import WalletState
from ledger.words import (
    FailureCode,
    HoldStatus,
    TransactionStatus,
    TransactionType,
)


class Row(Protocol):
    """A database row: its columns by name."""

    def __getitem__(self, column: str, /) -> Any:
        """Return a column's value."""

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return names and values."""


Json = dict[str, Any]

Amount = Annotated[
    Decimal,
    WithJsonSchema(
        {
            "type": "string",
            "description": "Major units, a decimal string",
            "examples": ["100.50"],
        }
    ),
]
Count = Annotated[int, Field(json_schema_extra={"format": "int64"})]
Timestamp = Annotated[AwareDatetime, Field(description="RFC 3339, UTC, microseconds")]

Word = TypeVar("Word")
Open = Annotated[Word | SkipJsonSchema[str], Field(union_mode="left_to_right")]
"""A word of a list that grows: a client of an older release reads a newer word as plain text."""


class Failure(BaseModel):
    """Why a transaction FAILED."""

    code: Open[FailureCode]
    detail: str | None


class TransactionEntry(BaseModel):
    """One leg of a COMPLETED transaction."""

    wallet_id: UUID
    sequence: Count
    amount: Amount = Field(description="Signed: negative where money leaves the wallet")
    balance_before: Amount
    balance_after: Amount


class TransactionLeg(BaseModel):
    """One leg of a journal, as it was asked for."""

    wallet_id: UUID | None
    external: bool = Field(description="Whether it is the world outside; then `wallet_id` is null")
    amount: Amount = Field(description="Signed: negative where money leaves the wallet")
    currency: str


class Hold(BaseModel):
    """What became of a hold: its amount is what is captured, what remains and what was freed."""

    status: Open[HoldStatus]
    remaining: Amount
    captured: Amount
    expires_at: Timestamp


class Transaction(BaseModel):
    """A transaction, in whatever state it is. Fields that do not apply are null."""

    id: UUID
    reference: str = Field(examples=["TXN-AGPBQ2JXKV2BDA3M3HGDHVYHLE"])
    idempotency_key: str | None = Field(
        description="null for readers who see only what is theirs and did not submit it"
    )
    submitter: str
    channel: Open[Channel]
    type: Open[TransactionType]
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    amount: Amount | None = Field(
        description="null for a journal, and until it is known: of a capture of the rest, say"
    )
    currency: str | None
    status: Open[TransactionStatus]
    failure: Failure | None
    description: str | None
    metadata: dict[str, Any]
    reverses: UUID | None
    reversed_by: UUID | None = Field(description="The reversal that completed it")
    entries: list[TransactionEntry]
    created_at: Timestamp
    completed_at: Timestamp | None
    legs: list[TransactionLeg] | None = Field(description="Of a journal")
    hold: Hold | None = Field(description="Of a hold that is posted")
    hold_id: UUID | None = Field(description="Of a capture and a release")
    reversals: list[UUID] | None = Field(description="Its reversals, in part or whole")
    reversed_amount: Amount | None = Field(description="How much of it they have reversed")
    valid_until: Timestamp | None
    execute_at: Timestamp | None
    batch_id: UUID | None = Field(description="The atomic batch that it is a member of")


class WalletAfter(BaseModel):
    """A wallet as a transaction left it."""

    wallet_id: UUID
    version: Count
    balance: Amount
    held: Amount
    available: Amount


_EMPTY: Final[Json] = {}

Embedded: TypeAlias = orjson.Fragment | Json
"""JSON text that orjson writes as it stands, or an empty object."""


@functools.lru_cache(maxsize=512)  # the transactions of a group share theirs, and so do a batch's
def format_moment(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds, always six digits."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# One call for all columns: looked up one by one they cost twice as much.
_COLUMNS: Final = itemgetter(
    "id",
    "idempotency_key",
    "submitter",
    "channel",
    "type",
    "source_wallet_id",
    "destination_wallet_id",
    "amount",
    "currency",
    "status",
    "failure_code",
    "description",
    "metadata",
    "reverses",
    "reversed_by",
    "source_sequence",
    "created_at",
    "completed_at",
    "has_terms",
    "reversals",
    "reversed_amount",
)
_TERMS_COLUMNS: Final = itemgetter(
    "legs", "hold", "hold_id", "valid_until", "execute_at", "batch_id"
)
_NO_TERMS: Final = (None, None, None, None, None, None)
_IRREVERSIBLE: Final = frozenset(
    {TransactionType.HOLD, TransactionType.RELEASE, TransactionType.REVERSAL}
)
_ENTRY_COLUMNS: Final = itemgetter(
    "amount",
    "currency",
    "source_sequence",
    "source_balance_after",
    "destination_sequence",
    "destination_balance_after",
)


def render_transaction(row: Row) -> Json:
    """Return a row of the database view `transaction_views` as `Transaction` has it."""
    (
        transaction_id, key, submitter, channel, kind, source_id, destination_id, minor, currency,
        status, code, description, metadata, reverses, reversed_by, source_sequence,
        created_at, completed_at, has_terms, reversals, reversed_minor,
    ) = _COLUMNS(row)  # fmt: skip
    legs_json, hold_json, hold_id, valid_until, execute_at, batch_id = (
        _TERMS_COLUMNS(row) if has_terms else _NO_TERMS
    )
    legs = orjson.loads(legs_json) if legs_json else []
    source, destination = str(source_id), str(destination_id)
    amount = None if minor is None or currency is None else format_minor(minor, currency)
    is_reversible = kind not in _IRREVERSIBLE
    return {
        "id": str(transaction_id),
        "reference": reference_of(transaction_id),
        "idempotency_key": key,
        "submitter": submitter,
        "channel": channel,
        "type": kind,
        "source_wallet_id": _shown_wallet(source_id, source, currency),
        "destination_wallet_id": _shown_wallet(destination_id, destination, currency),
        "amount": amount,
        "currency": currency,
        "status": status,
        "failure": None if code is None else {"code": code, "detail": row["failure_detail"]},
        "description": description,
        "metadata": stored_json(metadata),
        "reverses": None if reverses is None else str(reverses),
        "reversed_by": None if reversed_by is None else str(reversed_by),
        "entries": _leg_entries(legs)
        if source_sequence is None or amount is None
        else _entries(row, source, destination, amount),
        "created_at": format_moment(created_at),
        "completed_at": None if completed_at is None else format_moment(completed_at),
        "legs": [_leg(one) for one in legs] if legs else None,
        "hold": _hold(orjson.loads(hold_json), currency) if hold_json else None,
        "hold_id": None if hold_id is None else str(hold_id),
        "reversals": [str(one) for one in reversals or ()] if is_reversible else None,
        "reversed_amount": None
        if currency is None or not is_reversible
        else format_minor(reversed_minor or 0, currency),
        "valid_until": None if valid_until is None else format_moment(valid_until),
        "execute_at": None if execute_at is None else format_moment(execute_at),
        "batch_id": None if batch_id is None else str(batch_id),
    }


def shown_to(view: Json, *, name: str, theirs: Collection[str]) -> Json:
    """Return a rendered transaction as one sees it to whom only some wallets belong.

    `theirs` are those, by their ids; of others no balance is shown. Nor does anybody but its
    submitter see its key, and the legs of others.
    """
    shown = {**view, "entries": [one for one in view["entries"] if one["wallet_id"] in theirs]}
    if view["submitter"] != name:
        shown["idempotency_key"] = None
        legs = view["legs"]
        shown["legs"] = legs and [one for one in legs if one["wallet_id"] in theirs]
    return shown


def _shown_wallet(wallet_id: UUID | None, text: str, currency: str | None) -> str | None:
    """A wallet as clients see it: what is outside is none.

    Nor is the wallet of a row without a currency: it only orders a journal, or its reversal.
    """
    if wallet_id is None or currency is None or text == _external(currency):
        return None
    return text


def _leg(leg: Sequence[Any]) -> Json:
    wallet_id, currency, minor, is_external, *_ = leg
    return {
        "wallet_id": None if is_external else wallet_id,
        "external": is_external,
        "amount": format_minor(minor, currency),
        "currency": currency,
    }


def _leg_entries(legs: Sequence[Sequence[Any]]) -> list[Json]:
    """The entries of legs that are posted, in the order of the legs."""
    return [
        {
            "wallet_id": wallet_id,
            "sequence": sequence,
            "amount": format_minor(minor, currency),
            "balance_before": format_minor(balance - minor, currency),
            "balance_after": format_minor(balance, currency),
        }
        for wallet_id, currency, minor, _, sequence, balance in legs
        if sequence is not None
    ]


def _hold(hold: Sequence[Any], currency: str) -> Json:
    status, remaining, captured, expires_at = hold
    return {
        "status": status,
        "remaining": format_minor(remaining, currency),
        "captured": format_minor(captured, currency),
        "expires_at": expires_at,
    }


def render_wallet_after(state: WalletState) -> Json:
    """Return a wallet as a transaction left it as `WalletAfter` has it."""
    currency = state.currency
    return {
        "wallet_id": str(state.wallet_id),
        "version": state.version,
        "balance": format_minor(state.balance, currency),
        "held": format_minor(state.held, currency),
        "available": format_minor(state.available, currency),
    }


def _entries(row: Row, source: str, destination: str, amount: str) -> list[Json]:
    """The two legs of a posted transaction, the debit first."""
    minor, currency, debit, source_after, credit, destination_after = _ENTRY_COLUMNS(row)
    return [
        {
            "wallet_id": source,
            "sequence": debit,
            "amount": f"-{amount}",
            "balance_before": format_minor(source_after + minor, currency),
            "balance_after": format_minor(source_after, currency),
        },
        {
            "wallet_id": destination,
            "sequence": credit,
            "amount": amount,
            "balance_before": format_minor(destination_after - minor, currency),
            "balance_after": format_minor(destination_after, currency),
        },
    ]


def stored_json(text: str | None) -> Embedded:
    """Return stored JSON to be embedded as it is.

    Read and written again it would cost time, lose digits, and fail where it is deeper than orjson
    goes: rows from before the bound on depth are shown like all others.
    """
    return orjson.Fragment(text) if text else _EMPTY


@functools.cache  # as many answers as currencies
def _external(currency: str) -> str:
    return str(external_wallet_id(currency))


@functools.cache  # as many answers as currencies
def plain_terms(currency: str) -> str:
    """Return the last fields of a plain transaction that nothing has reversed, as JSON."""
    zero = format_minor(0, currency)
    return (
        f'"legs":null,"hold":null,"hold_id":null,"reversals":[],"reversed_amount":"{zero}",'
        '"valid_until":null,"execute_at":null,"batch_id":null'
    )


def new_view(submission: Submission, row: RecordedRow) -> bytes:
    """Return a new transaction as it would be read now, as JSON, without reading it."""
    if submission.command.terms is None:
        return pending_view(submission, row)
    return orjson.dumps(render_transaction(_new_row(submission, row, submission.command.terms)))


def _new_row(submission: Submission, row: RecordedRow, terms: RequestedTerms) -> Json:
    """Return the row of `transaction_views` that a submission with terms has become."""
    command = submission.command
    source, destination = recorded_wallets(command)
    legs = [[leg.wallet_id, leg.currency, leg.minor, leg.is_external] for leg in terms.legs]
    return {
        "id": row.id,
        "idempotency_key": command.idempotency_key,
        "submitter": submission.submitter,
        "channel": Channel.HTTP,
        "type": command.type,
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": None if command.money is None else command.money.minor,
        "currency": command.currency,
        "status": TransactionStatus.PENDING if row.is_pending else TransactionStatus.SCHEDULED,
        "failure_code": None,
        "description": command.description,
        "metadata": command.metadata.decode(),
        "reverses": terms.reverses,
        "reversed_by": None,
        "source_sequence": None,
        "created_at": row.created_at,
        "completed_at": None,
        "has_terms": True,
        "reversals": None,
        "reversed_amount": None,
        "legs": orjson.dumps([[*leg, None, None] for leg in legs]) if legs else None,
        "hold": None,
        "hold_id": terms.hold_id,
        "valid_until": terms.valid_until,
        "execute_at": terms.execute_at,
        "batch_id": terms.batch_id,
    }


def pending_view(submission: Submission, row: RecordedRow) -> bytes:
    """Return the same of a plain move, which is PENDING.

    The same bytes as `render_transaction` would lead to: each submission is rendered once, so this
    is written out.
    """
    command = submission.command
    minor, currency = command.plain_money
    external = external_wallet_id(currency)
    return (
        b'{"id":"%b","reference":"%b","idempotency_key":%b,"submitter":%b,"channel":"http",'
        b'"type":"%b","source_wallet_id":%b,"destination_wallet_id":%b,"amount":"%b",'
        b'"currency":"%b","status":"PENDING","failure":null,"description":%b,"metadata":%b,'
        b'"reverses":null,"reversed_by":null,"entries":[],"created_at":"%b","completed_at":null,%b}'
    ) % (
        str(row.id).encode(),
        reference_of(row.id).encode(),
        orjson.dumps(command.idempotency_key),
        orjson.dumps(submission.submitter),
        command.type.encode(),
        _wallet(command.source_wallet_id, external),
        _wallet(command.destination_wallet_id, external),
        format_minor(minor, currency).encode(),
        currency.encode(),
        orjson.dumps(command.description),
        command.metadata,
        format_moment(row.created_at).encode(),
        plain_terms(currency).encode(),
    )


def _wallet(wallet_id: UUID | None, external: UUID) -> bytes:
    if wallet_id is None or wallet_id == external:
        return b"null"
    return b'"%b"' % str(wallet_id).encode()
