"""Transactions, wallets and entries as JSON: the same over HTTP, in results and in events; pure.

The models give the documents their schemas. The `render_…` functions build the same shape from
database rows: they run for every read, where a model a row costs too much. The event of a posted
transaction is written out as text, for half the time; a property test holds it against the
documents byte by byte.
"""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from json.encoder import encode_basestring as quoted
from operator import itemgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
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


class TransactionEvent(Transaction):
    """A transaction's change of state, at least once; duplicates share `event_id`."""

    event_id: UUID
    event_type: Open[
        Literal[
            "transaction.completed",
            "transaction.failed",
            "transaction.reversed",
            "transaction.quarantined",
            "transaction.hold_expired",
        ]
    ]
    occurred_at: Timestamp
    wallets: list[WalletAfter] = Field(
        description="The customers' and internal wallets that it touched, as it left them"
    )


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


def render_event(
    transaction: Json,
    *,
    event_id: str,
    event_type: str,
    occurred_at: str,
    wallets: Sequence[WalletState] = (),
) -> Json:
    """Return a rendered transaction as the event that tells of it."""
    return {
        "event_id": event_id,
        "event_type": event_type,
        "occurred_at": occurred_at,
        **transaction,
        "wallets": [render_wallet_after(one) for one in wallets],
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


class PostedRow(NamedTuple):
    """A row of `transaction_views` that is posted, has no terms and is no part of a reversal."""

    id: UUID
    idempotency_key: str
    submitter: str
    channel: str
    type: str
    source_wallet_id: UUID
    destination_wallet_id: UUID
    amount: int
    currency: str
    status: str
    description: str | None
    metadata: str | None
    """Canonical JSON."""
    source_sequence: int
    source_balance_after: int
    destination_sequence: int
    destination_balance_after: int
    created_at: datetime
    completed_at: datetime
    request_id: str | None
    traceparent: str | None


# One call for all columns: looked up one by one they cost twice as much.
_POSTED_COLUMNS: Final = itemgetter(*PostedRow._fields)


def posted_row(row: Row) -> PostedRow | None:
    """Return a row that is posted, has no terms and is no part of a reversal; None for others."""
    is_plain = (
        row["source_sequence"] is not None
        and row["has_terms"] is None
        and row["reverses"] is None
        and row["reversals"] is None
    )
    return PostedRow(*_POSTED_COLUMNS(row)) if is_plain else None


Limits: TypeAlias = Mapping[str, Sequence[int]]
"""Of wallets by their ids: what is held, and the overdraft limit; both are 0 of those not here."""

NO_LIMITS: Final[Limits] = {}


def event_body(
    row: Row,
    *,
    event_id: str,
    event_type: str,
    occurred_at: str,
    wallets: Sequence[WalletState] | None = None,
    limits: Limits = NO_LIMITS,
) -> bytes:
    """Return the JSON of the event that tells of a row of `transaction_views`.

    `wallets` as the commit left them; None where they follow from the entries and from `limits`.
    The row may have changed since: what it says of its state is as the event has it.
    """
    decided = _as_decided(row, event_type)
    posted = posted_row(decided) if wallets is None else None
    if posted is not None:
        return posted_event_body(
            posted, event_id=event_id, event_type=event_type, occurred_at=occurred_at, limits=limits
        )
    return orjson.dumps(
        render_event(
            render_transaction(decided),
            event_id=event_id,
            event_type=event_type,
            occurred_at=occurred_at,
            wallets=wallets or (),
        )
    )


_DECIDED: Final[Mapping[str, Mapping[str, Any]]] = {
    "transaction.completed": {
        "status": TransactionStatus.COMPLETED,
        "reversed_by": None,
        "reversals": None,
        "reversed_amount": None,
    },
    "transaction.quarantined": {
        "status": TransactionStatus.QUARANTINED,
        "failure_code": None,
        "completed_at": None,
    },
}
"""What the columns of a row had when its event was decided, where they may change later."""


def _as_decided(row: Row, event_type: str) -> Row:
    changed = _DECIDED.get(event_type, {})
    if event_type == "transaction.completed" and row["type"] == TransactionType.HOLD:
        changed = {**changed, "hold": _as_opened(row)}
    return {**dict(row.items()), **changed} if changed else row


def _as_opened(row: Row) -> str:
    """Return a hold as it was when it was posted, in the form of the view's column."""
    *_, expires_at = orjson.loads(row["hold"])
    return orjson.dumps([HoldStatus.OPEN, row["amount"], 0, expires_at]).decode()


def posted_event_body(
    row: PostedRow,
    *,
    event_id: str,
    event_type: str,
    occurred_at: str,
    limits: Limits = NO_LIMITS,
) -> bytes:
    """Return the same bytes for a posted row: names and values in `TransactionEvent`'s order."""
    (
        transaction_id, key, submitter, channel, kind, source_id, destination_id, minor, currency,
        status, description, metadata, debit, source_after, credit, destination_after, created_at,
        completed_at, _, _,
    ) = row  # fmt: skip
    source, destination = f'"{source_id}"', f'"{destination_id}"'
    external, zero = _currency_texts(currency)
    amount = format_minor(minor, currency)
    source_text = format_minor(source_after, currency)
    destination_text = format_minor(destination_after, currency)
    seen_source = "null" if source == external else source
    seen_destination = "null" if destination == external else destination
    wallets = ",".join(
        _wallet_after_text(*side, zero=zero, currency=currency, limits=limits)
        for side in (
            (seen_source, debit, source_after, source_text),
            (seen_destination, credit, destination_after, destination_text),
        )
        if side[0] != "null"
    )
    return (
        f'{{"event_id":"{event_id}","event_type":"{event_type}","occurred_at":"{occurred_at}",'
        f'"id":"{transaction_id}","reference":"{reference_of(transaction_id)}",'
        f'"idempotency_key":{quoted(key)},"submitter":{quoted(submitter)},'
        f'"channel":"{channel}","type":"{kind}",'
        f'"source_wallet_id":{seen_source},"destination_wallet_id":{seen_destination},'
        f'"amount":"{amount}","currency":"{currency}","status":"{status}","failure":null,'
        f'"description":{"null" if description is None else quoted(description)},'
        f'"metadata":{metadata or "{}"},"reverses":null,"reversed_by":null,"entries":['
        f'{{"wallet_id":{source},"sequence":{debit},"amount":"-{amount}",'
        f'"balance_before":"{format_minor(source_after + minor, currency)}",'
        f'"balance_after":"{source_text}"}},'
        f'{{"wallet_id":{destination},"sequence":{credit},"amount":"{amount}",'
        f'"balance_before":"{format_minor(destination_after - minor, currency)}",'
        f'"balance_after":"{destination_text}"}}],'
        f'"created_at":"{format_moment(created_at)}",'
        f'"completed_at":"{format_moment(completed_at)}",{plain_terms(currency)},'
        f'"wallets":[{wallets}]}}'
    ).encode()


def _wallet_after_text(
    quoted_id: str,
    version: int,
    balance: int,
    balance_text: str,
    *,
    zero: str,
    currency: str,
    limits: Limits,
) -> str:
    """Return what `render_wallet_after` comes to as JSON."""
    held_text, available_text = zero, balance_text
    # Only few wallets have a limit, or money that is held.
    found = limits.get(quoted_id[1:-1]) if limits else None
    if found is not None:
        held, limit = found
        held_text = format_minor(held, currency) if held else zero
        available_text = format_minor(balance - held + limit, currency)
    return (
        f'{{"wallet_id":{quoted_id},"version":{version},"balance":"{balance_text}",'
        f'"held":"{held_text}","available":"{available_text}"}}'
    )


@functools.cache  # as many answers as currencies
def plain_terms(currency: str) -> str:
    """Return the last fields of a plain transaction that nothing has reversed, as JSON."""
    zero = format_minor(0, currency)
    return (
        f'"legs":null,"hold":null,"hold_id":null,"reversals":[],"reversed_amount":"{zero}",'
        '"valid_until":null,"execute_at":null,"batch_id":null'
    )


@functools.cache  # as many answers as currencies
def _currency_texts(currency: str) -> tuple[str, str]:
    """Return the id of a currency's external wallet in quotes, and nothing as an amount."""
    return f'"{external_wallet_id(currency)}"', format_minor(0, currency)
