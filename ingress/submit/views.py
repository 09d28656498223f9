"""A submission that was recorded just now, as it would be read: written out, not read."""

from uuid import UUID

import orjson

from contracts.identifiers import external_wallet_id, reference_of
from contracts.money import format_minor
from contracts.record import RecordedRow, Submission, recorded_wallets
from contracts.representations.transaction import (
    Json,
    format_moment,
    plain_terms,
    render_transaction,
)
from contracts.requests.terms import RequestedTerms
from contracts.requests.transaction import Channel, TransactionStatus


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
