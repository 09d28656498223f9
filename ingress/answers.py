"""Answers: what a call gives back, before any door writes it as HTTP; those on transactions."""

from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

import orjson

from contracts.errors import ContractError
from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.problems import ProblemCode
from contracts.recording import RecordedRow, Submission
from contracts.transactions import FINAL_STATUSES, TransactionCommand, TransactionStatus
from contracts.views import Json, format_moment
from ingress.idempotency import Standing

RETRY_AFTER_S: Final = 1
NO_HEADERS: Final[Mapping[str, str]] = {}
RETRY: Final[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}


class Answer(NamedTuple):
    """A status, a body of `content_type`, and the headers that belong to the call."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS
    content_type: str = "application/json"


def new_answer(submission: Submission, row: RecordedRow) -> Answer:
    """Return what a submission that was recorded just now is answered."""
    location = f"/v1/transactions/{row.id}"
    return Answer(
        202,
        pending_view(submission, row),
        {"Location": location, "Retry-After": str(RETRY_AFTER_S)},
    )


def submitted_answer(found: Json, standing: Standing, *, wait_s: int = 0) -> Answer:
    """Return what a submission is answered that was recorded before, or whose end was awaited.

    202 for a new one that did not end in time.
    """
    headers = {"Location": f"/v1/transactions/{found['id']}", **_preference_applied(wait_s)}
    if standing is Standing.REPLAY:
        return Answer(200, orjson.dumps(found), {**headers, "Idempotency-Replayed": "true"})
    if found["status"] in FINAL_STATUSES:
        return Answer(200, orjson.dumps(found), headers)
    return Answer(202, orjson.dumps(found), {**headers, **RETRY})


def read_answer(transaction_id: UUID, found: Json | None, *, wait_s: int = 0) -> Answer:
    """Return what a reader is answered; raises ContractError where there is no such one."""
    if found is None:
        raise ContractError(
            ProblemCode.TRANSACTION_NOT_FOUND, f"there is no transaction {transaction_id}"
        )
    headers = _preference_applied(wait_s)
    is_pending = found["status"] == TransactionStatus.PENDING
    return Answer(200, orjson.dumps(found), {**headers, **RETRY} if is_pending else headers)


def _preference_applied(wait_s: int) -> Mapping[str, str]:
    """Return the header that says how long the client was made to wait at most (RFC 7240)."""
    return {"Preference-Applied": f"wait={wait_s}"} if wait_s else NO_HEADERS


def conflict(command: TransactionCommand) -> ContractError:
    """Return what is wrong with a key that stands for other content."""
    return ContractError(
        ProblemCode.IDEMPOTENCY_KEY_REUSED,
        f"the key '{command.idempotency_key}' stands for a request with other content",
    )


def pending_view(submission: Submission, row: RecordedRow) -> bytes:
    """Return a new transaction as it would be read now, as JSON, without reading it.

    The same bytes as `render_transaction` would lead to: each submission is rendered once, so this
    is written out.
    """
    command = submission.command
    minor, currency = command.money
    external = external_wallet_id(currency)
    return (
        b'{"id":"%b","reference":"%b","idempotency_key":%b,"submitter":%b,"channel":"http",'
        b'"type":"%b","source_wallet_id":%b,"destination_wallet_id":%b,"amount":"%b",'
        b'"currency":"%b","status":"PENDING","failure":null,"description":%b,"metadata":%b,'
        b'"reverses":null,"reversed_by":null,"entries":[],"created_at":"%b","completed_at":null}'
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
    )


def _wallet(wallet_id: UUID | None, external: UUID) -> bytes:
    if wallet_id is None or wallet_id == external:
        return b"null"
    return b'"%b"' % str(wallet_id).encode()
