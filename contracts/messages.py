"""What travels over the broker: decoding of what comes in, encoding of what goes out.

Two kinds of message come in on a partition's queue:
- `transaction.requested.v1`, from an upstream system: one transaction, or up to BATCH_MAX of them;
- `transaction.recorded.v1`, from the ingress and the reconciler: ids of PENDING rows to post.

Results go to direct reply-to, or to a queue that the sender may read; events to an exchange, and
in bundles, `transaction.events.v1`, to another.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes
from uuid import UUID

import orjson
from asyncpg.pgproto import pgproto
from pydantic import BaseModel, ConfigDict, Field

from contracts.json import TooManyFieldsError, content_type_error, decode_json
from contracts.problems import ContractError, ProblemCode
from contracts.representations.transaction import Json
from contracts.requests.references import atomic
from contracts.requests.terms import TransactionRequest
from contracts.requests.transaction import (
    BATCH_MAX,
    BatchMode,
    TransactionCommand,
    command_of,
    json_pointer,
)
from contracts.requests.validators import IdempotencyKey

REQUESTED_TYPE: Final = "transaction.requested.v1"
RECORDED_TYPE: Final = "transaction.recorded.v1"
RESULT_TYPE: Final = "transaction.result.v1"
EVENT_BUNDLE_TYPE: Final = "transaction.events.v1"
CONTENT_TYPE: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""The largest message body, the same bound as an HTTP body."""
EVENT_BUNDLE_MAX: Final = 64
"""Events in one message: whoever reads it has all of them in memory together."""
_VERSION: Final = 1

REASON_HEADER: Final = "x-ackledger-reason"
DETAIL_HEADER: Final = "x-ackledger-detail"
SUBMITTER_HEADER: Final = "x-ackledger-submitter"
TRANSACTION_HEADER: Final = "x-ackledger-transaction-id"
QUEUE_HEADER: Final = "x-ackledger-queue"
REPLY_TO_HEADER: Final = "x-ackledger-reply-to"
"""Where a result was to go that could not be written: a replay sends it there."""
CORRELATION_HEADER: Final = "x-ackledger-correlation-id"
"""The same result's correlation id, by `contracts.messages.escaped`."""
REQUEST_ID_HEADER: Final = "x-request-id"
CLOUD_EVENTS_SOURCE: Final = "/ackledger/transactions"
"""A URI reference; with its id it names an event, however often it is sent."""
TRACEPARENT_HEADER: Final = "traceparent"


class DeadLetterReason(StrEnum):
    """Why a message became a dead letter."""

    NOT_JSON = "not_json"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_TYPE = "unknown_type"
    NOT_PERMITTED = "not_permitted"
    INVALID_MESSAGE = "invalid_message"
    MESSAGE_TOO_LARGE = "message_too_large"
    SUBMITTER_MISSING = "submitter_missing"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    DELIVERY_LIMIT = "delivery_limit"
    QUARANTINED = "quarantined"
    EVENT_NOT_SENT = "event_not_sent"
    """Not a message that came: an event that could not be built or written to the broker."""
    EVENT_REJECTED = "event_rejected"
    """An event that a subscriber's full queue refused for too long."""
    REPLY_NOT_SENT = "reply_not_sent"
    """A result that could not be written; its transactions are as they should be."""
    UNKNOWN = "unknown"


EVENT_REASONS: Final = frozenset({DeadLetterReason.EVENT_NOT_SENT, DeadLetterReason.EVENT_REJECTED})
"""Of dead letters that are events set aside; a replay gives them to the relay again."""


class PoisonMessageError(Exception):
    """A message that can never be processed; `reason` and `detail` go with the dead letter."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RequestedTransaction(TransactionRequest):
    """One transaction of an upstream message; its key is in the body."""

    idempotency_key: IdempotencyKey


class RequestedMessage(RequestedTransaction):
    """The body of `transaction.requested.v1` with one transaction."""

    version: Literal[1]


class RequestedBatchMessage(BaseModel):
    """The body of `transaction.requested.v1` with many transactions, posted in their order."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    mode: BatchMode = Field(
        default=BatchMode.INDEPENDENT,
        description="`atomic`: all of them are posted in one commit, or all are FAILED",
    )
    transactions: list[RequestedTransaction] = Field(min_length=1, max_length=BATCH_MAX)


class RecordedMessage(BaseModel):
    """The body of `transaction.recorded.v1`: ids of committed PENDING rows, in accepted order."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    transaction_ids: list[UUID] = Field(min_length=1, max_length=BATCH_MAX)


class Recorded(NamedTuple):
    """A decoded `transaction.recorded.v1`."""

    transaction_ids: list[UUID]


class Requested(NamedTuple):
    """A decoded `transaction.requested.v1`: commands of one submitter, in their order."""

    submitter: str
    commands: list[TransactionCommand]
    is_batch: bool
    is_atomic: bool = False
    """Whether the commands are the members of an atomic batch: all are recorded, or none."""


def decode_message(
    body: bytes, *, message_type: str | None, content_type: str | None, user_id: str | None
) -> Recorded | Requested:
    """Return what a delivery asks for; raises PoisonMessageError.

    `user_id` is the broker's validated user. A message without a type or a content type is read by
    its body: the broker's clients set neither by themselves.
    """
    if len(body) > MESSAGE_BYTES_MAX:
        _poison(
            DeadLetterReason.MESSAGE_TOO_LARGE, f"{len(body)} bytes, {MESSAGE_BYTES_MAX} at most"
        )
    if content_type and content_type != CONTENT_TYPE:
        wrong = content_type_error(content_type)
        if wrong is not None:
            _poison(DeadLetterReason.NOT_JSON, wrong)
    if message_type == RECORDED_TYPE:
        return _recorded(_decoded_json(body))
    if message_type not in (None, "", REQUESTED_TYPE):
        _poison(_type_reason(message_type), f"the message type is '{message_type}'")
    if not user_id:
        _poison(DeadLetterReason.SUBMITTER_MISSING, "the property user_id is not set")
    return _requested(_decoded_json(body), user_id)


def encode_recorded(transaction_ids: Sequence[UUID]) -> bytes:
    """Return the body of a `transaction.recorded.v1`."""
    ids = [str(transaction_id) for transaction_id in transaction_ids]
    return orjson.dumps({"version": _VERSION, "transaction_ids": ids})


def _decoded_json(body: bytes) -> dict[str, Any]:
    try:
        content = decode_json(body)
    except TooManyFieldsError as error:
        raise PoisonMessageError(DeadLetterReason.INVALID_MESSAGE, str(error)) from None
    except ValueError as error:
        raise PoisonMessageError(DeadLetterReason.NOT_JSON, str(error)) from None
    if not isinstance(content, dict):
        _poison(DeadLetterReason.INVALID_MESSAGE, "a JSON object is expected")
    version = content.pop("version", None)
    if version != _VERSION or isinstance(version, bool):
        _poison(DeadLetterReason.UNKNOWN_VERSION, f"version {version!r} is not {_VERSION}"[:200])
    return content


def _requested(content: dict[str, Any], submitter: str) -> Requested:
    is_batch = "transactions" in content
    items = content["transactions"] if is_batch else [content]
    if is_batch and not content.keys() <= {"transactions", "mode"}:
        _poison(
            DeadLetterReason.INVALID_MESSAGE,
            "beside transactions only version and mode are expected",
        )
    if not isinstance(items, list) or not 1 <= len(items) <= BATCH_MAX:
        _poison(DeadLetterReason.INVALID_MESSAGE, f"1 to {BATCH_MAX} transactions are expected")
    is_atomic = is_batch and _mode(content) is BatchMode.ATOMIC
    commands = [_command(item, index, is_batch=is_batch) for index, item in enumerate(items)]
    if is_atomic:
        commands = _atomic(commands, submitter)
    return Requested(submitter, commands, is_batch=is_batch, is_atomic=is_atomic)


def _mode(content: dict[str, Any]) -> BatchMode:
    mode = content.get("mode", BatchMode.INDEPENDENT)
    if mode not in list(BatchMode):
        _poison(DeadLetterReason.INVALID_MESSAGE, f"mode is one of {', '.join(BatchMode)}")
    return BatchMode(mode)


def _atomic(commands: list[TransactionCommand], submitter: str) -> list[TransactionCommand]:
    try:
        return atomic(commands, submitter=submitter)
    except ContractError as error:
        raise PoisonMessageError(DeadLetterReason.INVALID_MESSAGE, error.detail) from None


_FIELDS: Final = frozenset(RequestedTransaction.model_fields)
_UNKNOWN_SHOWN_MAX: Final = 20
"""Unknown fields that a detail names, and errors that are made of one transaction at the most."""


def _check_fields(item: Any, place: str) -> None:
    """Refuse many unknown fields before the model makes an error of each."""
    if type(item) is dict and len(item) > len(_FIELDS):
        unknown = [name for name in islice(item, _UNKNOWN_SHOWN_MAX) if name not in _FIELDS]
        names = ", ".join(json_pointer(name[:40]) for name in unknown)
        _poison(
            DeadLetterReason.INVALID_MESSAGE,
            f"{place}{len(item)} fields, at most {len(_FIELDS)} are known; not known: {names}",
        )


def _command(item: Any, index: int, *, is_batch: bool) -> TransactionCommand:
    place = f"/transactions/{index}: " if is_batch else ""
    _check_fields(item, place)
    try:
        command = command_of(item)
    except ContractError as error:
        detail = f"{place}{error.detail}"
        if error.code is not ProblemCode.VALIDATION_FAILED:
            detail = f"{place}{error.code}: {error.detail}"
        raise PoisonMessageError(DeadLetterReason.INVALID_MESSAGE, detail) from None
    if command.terms is not None and command.terms.is_forced:
        _poison(DeadLetterReason.NOT_PERMITTED, f"{place}/force: is for operators, over HTTP alone")
    return command


def _recorded(content: dict[str, Any]) -> Recorded:
    ids = content.get("transaction_ids")
    if set(content) != {"transaction_ids"} or not isinstance(ids, list):
        _poison(DeadLetterReason.INVALID_MESSAGE, "transaction_ids is expected")
    if not 1 <= len(ids) <= BATCH_MAX:
        _poison(DeadLetterReason.INVALID_MESSAGE, f"1 to {BATCH_MAX} ids are expected")
    try:
        # asyncpg's own: read and bound to a statement in a tenth of the standard one's time.
        return Recorded([pgproto.UUID(text) for text in ids])
    except (ValueError, TypeError, AttributeError):
        raise PoisonMessageError(
            DeadLetterReason.INVALID_MESSAGE, "transaction_ids are UUIDs"
        ) from None


def _type_reason(message_type: str) -> DeadLetterReason:
    if message_type.startswith("transaction.requested.v"):
        return DeadLetterReason.UNKNOWN_VERSION
    if message_type.startswith("transaction.recorded.v"):
        return DeadLetterReason.UNKNOWN_VERSION
    return DeadLetterReason.UNKNOWN_TYPE


def _poison(reason: DeadLetterReason, detail: str) -> NoReturn:
    raise PoisonMessageError(reason, detail)


DIRECT_REPLY_PREFIX: Final = "amq.rabbitmq.reply-to."
"""The broker's direct reply-to: it writes the rest itself, and only the asking channel gets it."""
OWN_PREFIX: Final = "ackledger."
"""Of the product's own queues and exchanges: never a reply queue, whatever a user is called."""

_PLAIN: Final = "".join(chr(one) for one in range(0x21, 0x7F) if chr(one) != "%")


def reply_queue(reply_to: bytes, *, submitter: str) -> str | None:
    """Return the queue that a result goes to; None where its sender has no right to it.

    A result is published with the processor's rights, so `reply_to` must not name just any queue.
    `submitter` is the user that the broker validated: the queues that begin with its name and a
    point are its own.
    """
    try:
        queue = reply_to.decode()
    except UnicodeDecodeError:
        return None
    if queue.startswith(DIRECT_REPLY_PREFIX):
        return queue
    if queue.startswith(OWN_PREFIX) or not queue.startswith(f"{submitter}."):
        return None
    return queue


def result_body(transactions: Iterable[Json]) -> bytes:
    """Return the body of a result: the transactions of one message, in its order."""
    return orjson.dumps({"version": _VERSION, "transactions": list(transactions)})


def escaped(octets: bytes) -> str:
    """Return octets as visible ASCII, %XX for any other: as a header or JSON can hold them."""
    return quote_from_bytes(octets, safe=_PLAIN)


def unescaped(text: str) -> bytes:
    """Return the octets that `escaped` was given."""
    return unquote_to_bytes(text)
