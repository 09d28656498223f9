"""Examples for the documents, rendered as the server renders: they cannot fall out of form."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from contracts.identifiers import event_id, external_wallet_id, reference_of
from contracts.problems import PROBLEMS, ProblemCode
from contracts.representations.event import render_event
from contracts.representations.review import render_review
from contracts.representations.trail import render_audit_record, render_seal
from contracts.representations.transaction import (
    Json,
    format_moment,
    render_transaction,
    render_wallet_after,
)
from contracts.representations.wallet import render_wallet, render_wallet_entry, render_wallet_hold
from ledger.state import WalletState

_ALICE: Final = UUID("0199a1f2-6c1e-7d40-8001-5f2d9c7be311")
_BOB: Final = UUID("0199a1f2-7a90-72c8-8001-c84e10d7f0aa")
_TRANSACTION_ID: Final = UUID("019aa3b0-41d2-7e14-8001-9b7f02c4d6e8")
_OUTBOX_ID: Final = UUID("019aa3b0-41d9-7a20-8001-31f6c7a9be02")
_REVIEW_ID: Final = UUID("019aa3b0-41dc-7b1e-8001-6e0d9a3c5f17")
_OPENED: Final = datetime(2026, 10, 2, 9, 14, 7, 120_431, tzinfo=UTC)
_SUBMITTED: Final = datetime(2026, 11, 20, 12, 0, 3, 482_917, tzinfo=UTC)
_POSTED: Final = _SUBMITTED + timedelta(microseconds=2_604)

REFERENCE: Final = reference_of(_TRANSACTION_ID)

_WALLET_ROW: Final[dict[str, Any]] = {
    "id": _ALICE,
    "owner_id": "customer-1042",
    "currency": "USD",
    "kind": "customer",
    "balance": 89_950,
    "held": 0,
    "overdraft_limit": 10_000,
    "status": "ACTIVE",
    "version": 18,
    "metadata": '{"segment":"retail"}',
    "created_at": _OPENED,
    "updated_at": _POSTED,
    "deleted_at": None,
}
_PENDING_ROW: Final[dict[str, Any]] = {
    "id": _TRANSACTION_ID,
    "idempotency_key": "order-4711-payment",
    "submitter": "shop",
    "channel": "http",
    "type": "transfer",
    "source_wallet_id": _ALICE,
    "destination_wallet_id": _BOB,
    "amount": 10_050,
    "currency": "USD",
    "status": "PENDING",
    "failure_code": None,
    "failure_detail": None,
    "description": "Order 4711",
    "metadata": '{"order":"4711"}',
    "reverses": None,
    "reversed_by": None,
    "has_terms": None,
    "reversals": None,
    "reversed_amount": None,
    "source_sequence": None,
    "destination_sequence": None,
    "created_at": _SUBMITTED,
    "completed_at": None,
}
_COMPLETED_ROW: Final[dict[str, Any]] = {
    **_PENDING_ROW,
    "status": "COMPLETED",
    "source_sequence": 18,
    "source_balance_after": 89_950,
    "destination_sequence": 3,
    "destination_balance_after": 30_050,
    "completed_at": _POSTED,
}
_ENTRY_ROW: Final[dict[str, Any]] = {
    "wallet_id": _ALICE,
    "sequence": 18,
    "transaction_id": _TRANSACTION_ID,
    "type": "transfer",
    "amount": -10_050,
    "currency": "USD",
    "balance_after": 89_950,
    "description": "Order 4711",
    "created_at": _POSTED,
}


def _shown(rendered: Json) -> Json:
    """Return what a reader of the answer decodes."""
    shown: Json = orjson.loads(orjson.dumps(rendered))
    return shown


WALLET_REQUEST: Final[Json] = {
    "currency": "USD",
    "owner_id": "customer-1042",
    "overdraft_limit": "100.00",
    "metadata": {"segment": "retail"},
}
WALLET: Final[Json] = _shown(render_wallet(_WALLET_ROW))
NEW_WALLET: Final[Json] = _shown(
    render_wallet({**_WALLET_ROW, "balance": 0, "version": 0, "updated_at": _OPENED})
)
INTERNAL_WALLET_REQUEST: Final[Json] = {
    "currency": "USD",
    "kind": "internal",
    "owner_id": "fees",
}
WALLET_PAGE: Final[Json] = {"items": [WALLET], "next_cursor": None}
ENTRY_PAGE: Final[Json] = {"items": [render_wallet_entry(_ENTRY_ROW)], "next_cursor": None}
HOLD_PAGE: Final[Json] = {
    "wallet": WALLET,
    "items": [
        render_wallet_hold(
            {
                "transaction_id": _TRANSACTION_ID,
                "wallet_id": _ALICE,
                "destination_wallet_id": _BOB,
                "currency": "USD",
                "amount": 10_050,
                "remaining": 4_050,
                "captured": 6_000,
                "status": "OPEN",
                "expires_at": _POSTED + timedelta(hours=1),
                "created_at": _SUBMITTED,
            }
        )
    ],
    "next_cursor": None,
}
BALANCE: Final[Json] = {"balance": "899.50", "at": format_moment(_POSTED)}

TRANSFER_REQUEST: Final[Json] = {
    "type": "transfer",
    "source_wallet_id": str(_ALICE),
    "destination_wallet_id": str(_BOB),
    "amount": "100.50",
    "currency": "USD",
    "description": "Order 4711",
    "metadata": {"order": "4711"},
}
DEPOSIT_REQUEST: Final[Json] = {
    "type": "deposit",
    "destination_wallet_id": str(_ALICE),
    "amount": "1000.00",
    "currency": "USD",
    "description": "Card top-up",
}
WITHDRAWAL_REQUEST: Final[Json] = {
    "type": "withdrawal",
    "source_wallet_id": str(_BOB),
    "amount": "42.00",
    "currency": "USD",
    "description": "Payout to bank",
}
HOLD_REQUEST: Final[Json] = {
    "type": "hold",
    "source_wallet_id": str(_ALICE),
    "destination_wallet_id": str(_BOB),
    "amount": "100.50",
    "currency": "USD",
    "expires_in_s": 3600,
}
CAPTURE_REQUEST: Final[Json] = {
    "type": "capture",
    "hold_id": str(_TRANSACTION_ID),
    "amount": "60.00",
    "final": False,
}
RELEASE_REQUEST: Final[Json] = {"type": "release", "hold_id": str(_TRANSACTION_ID)}
JOURNAL_REQUEST: Final[Json] = {
    "type": "journal",
    "legs": [
        {"wallet_id": str(_ALICE), "amount": "-100.50", "currency": "USD"},
        {"wallet_id": str(_BOB), "amount": "98.00", "currency": "USD"},
        {"external": True, "amount": "2.50", "currency": "USD"},
    ],
    "description": "Order 4711, and its fee",
}
REVERSAL_REQUEST: Final[Json] = {
    "type": "reversal",
    "reverses": str(_TRANSACTION_ID),
    "amount": "10.00",
}
SCHEDULED_REQUEST: Final[Json] = {
    **TRANSFER_REQUEST,
    "execute_at": "2026-12-01T06:00:00Z",
    "valid_until": "2026-12-02T06:00:00Z",
    "conditions": [{"wallet_id": str(_ALICE), "available_at_least": "50.00"}],
}
BATCH_REQUEST: Final[Json] = {
    "transactions": [
        {**TRANSFER_REQUEST, "idempotency_key": "order-4711-payment"},
        {**DEPOSIT_REQUEST, "idempotency_key": "top-up-0815"},
    ]
}
PREVIEW_BATCH_REQUEST: Final[Json] = {
    "mode": "atomic",
    "transactions": [TRANSFER_REQUEST, WITHDRAWAL_REQUEST],
}
PREVIEW: Final[Json] = {
    "transactions": [{"status": "COMPLETED", "failure": None}],
    "wallets": [
        render_wallet_after(WalletState(_ALICE, 18, 89_950, 0, 99_950, currency="USD")),
        render_wallet_after(WalletState(_BOB, 3, 30_050, 0, 30_050, currency="USD")),
    ],
}

TRANSACTION: Final[Json] = _shown(render_transaction(_COMPLETED_ROW))
PENDING_TRANSACTION: Final[Json] = _shown(render_transaction(_PENDING_ROW))
FAILED_TRANSACTION: Final[Json] = _shown(
    render_transaction(
        {
            **_PENDING_ROW,
            "type": "withdrawal",
            "destination_wallet_id": external_wallet_id("USD"),
            "status": "FAILED",
            "failure_code": "insufficient_funds",
            "failure_detail": "999.50 USD available, 100000.00 USD wanted",
            "amount": 10_000_000,
            "completed_at": _POSTED,
        }
    )
)
CANCELLED_TRANSACTION: Final[Json] = _shown(
    render_transaction(
        {
            **_PENDING_ROW,
            "has_terms": True,
            "legs": None,
            "hold": None,
            "hold_id": None,
            "valid_until": None,
            "execute_at": _SUBMITTED + timedelta(days=10),
            "batch_id": None,
            "status": "FAILED",
            "failure_code": "cancelled",
            "failure_detail": "it was cancelled before it was due",
            "completed_at": _POSTED,
        }
    )
)
TRANSACTION_PROCESSING: Final[Json] = {
    "transaction_id": TRANSACTION["id"],
    "submitter": TRANSACTION["submitter"],
    "channel": TRANSACTION["channel"],
    "idempotency_key": TRANSACTION["idempotency_key"],
    "request_id": "checkout-7f3a",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "is_trace_kept": True,
    "is_unannounced": False,
    "announced_again": 0,
    "next_announcement_at": None,
    "review_ids": [],
}
TRANSACTION_PAGE: Final[Json] = {"items": [TRANSACTION], "next_cursor": None}
TRANSACTION_EVENT: Final[Json] = render_event(
    TRANSACTION,
    event_id=event_id(_OUTBOX_ID, _TRANSACTION_ID),
    event_type="transaction.completed",
    occurred_at=format_moment(_POSTED),
)

EVENT_PAGE: Final[Json] = {
    "items": [TRANSACTION_EVENT],
    "next_cursor": None,
    "last_id": "4711-0d4f3a9c",
    "reset": False,
}

_WEBHOOK_ID: Final = "0199a1f2-9b10-7000-8001-5f0c9a11b0de"
WEBHOOK_REQUEST: Final[Json] = {
    "url": "https://shop.example/webhooks/ackledger",
    "event_types": ["transaction.completed", "transaction.failed"],
}
WEBHOOK: Final[Json] = {
    "id": _WEBHOOK_ID,
    **WEBHOOK_REQUEST,
    "wallet_ids": None,
    "status": "ACTIVE",
    "failing_since": None,
    "created_at": format_moment(_SUBMITTED),
    "updated_at": format_moment(_SUBMITTED),
}
WEBHOOK_WITH_SECRET: Final[Json] = {**WEBHOOK, "secret": "whsec_(shown once)"}
WEBHOOK_PAGE: Final[Json] = {"items": [WEBHOOK], "next_cursor": None}
WEBHOOK_SECRET: Final[Json] = {
    "secret": "whsec_(shown once)",
    "previous_valid_until": format_moment(_SUBMITTED + timedelta(days=1)),
}
WEBHOOK_DELIVERY: Final[Json] = {
    "id": "0199a1f2-9b11-7000-8002-5f0c9a11b0de",
    "webhook_id": _WEBHOOK_ID,
    "transaction_id": TRANSACTION["id"],
    "event_id": str(event_id(_OUTBOX_ID, _TRANSACTION_ID)),
    "event_type": "transaction.completed",
    "status": "PENDING",
    "attempts": [
        {
            "number": 1,
            "at": format_moment(_POSTED),
            "response_status": 503,
            "error": None,
            "seconds": 0.2,
        }
    ],
    "next_attempt_at": format_moment(_POSTED + timedelta(seconds=5)),
    "created_at": format_moment(_POSTED),
    "delivered_at": None,
}
WEBHOOK_DELIVERY_PAGE: Final[Json] = {"items": [WEBHOOK_DELIVERY], "next_cursor": None}


REQUESTED_VERIFICATION: Final[Json] = {
    "id": "0199a1f2-9c10-7000-8003-5f0c9a11b0de",
    "state": "REQUESTED",
    "requested_by": "back-office",
    "requested_at": format_moment(_SUBMITTED),
    "started_at": None,
    "ended_at": None,
    "rows_done": 0,
    "rows_total": 0,
    "wallets": None,
    "transactions": None,
    "entries": None,
    "latest_seal": None,
    "findings": None,
    "error": None,
}
RUNNING_VERIFICATION: Final[Json] = {
    **REQUESTED_VERIFICATION,
    "state": "RUNNING",
    "started_at": format_moment(_SUBMITTED + timedelta(seconds=1)),
    "rows_done": 40_000,
    "rows_total": 90_000,
}
INTEGRITY: Final[Json] = {
    "checked_until": format_moment(_SUBMITTED),
    "findings": 0,
    "verification": {
        **RUNNING_VERIFICATION,
        "state": "ENDED",
        "ended_at": format_moment(_SUBMITTED + timedelta(seconds=9)),
        "rows_done": 90_000,
        "wallets": 1_200,
        "transactions": 20_000,
        "entries": 30_000,
        "latest_seal": f"118:{'4f' * 32}",
        "findings": 0,
    },
}
INTEGRITY_FINDING_PAGE: Final[Json] = {
    "items": [
        {
            "check": "wallet_balance",
            "subject": "wallet 019aa3b1-0c4e-7a52-8001-3d6f1b2a9c70",
            "detail": "the balance is 101, the entries sum to 100",
            "found_at": format_moment(_SUBMITTED),
            "last_found_at": format_moment(_SUBMITTED),
        }
    ],
    "next_cursor": None,
}


_PROBLEM_DETAILS: Final[dict[ProblemCode, str]] = {
    ProblemCode.MALFORMED_REQUEST: "what was sent is not valid HTTP/1.1",
    ProblemCode.MALFORMED_JSON: "unexpected end of data: line 1 column 37",
    ProblemCode.VALIDATION_FAILED: "/amount: USD has 2 decimals, the amount has more",
    ProblemCode.INVALID_PARAMETER: "limit: 1 to 200 is expected",
    ProblemCode.INVALID_CURSOR: "the cursor belongs to another list or other filters",
    ProblemCode.IDEMPOTENCY_KEY_MISSING: "name the request with the header Idempotency-Key",
    ProblemCode.IDEMPOTENCY_KEY_INVALID: "an idempotency key is 1 to 255 visible ASCII characters",
    ProblemCode.IDEMPOTENCY_KEY_REUSED: "the key 'top-up-0815' stands for other content",
    ProblemCode.UNAUTHENTICATED: "the API key is unknown or revoked",
    ProblemCode.INVALID_CREDENTIALS: "the address or the password is wrong",
    ProblemCode.TOKEN_INVALID: "the token was used before, is over, or never was one",
    ProblemCode.PASSWORD_TOO_WEAK: "/password: must have at least 8 characters",
    ProblemCode.INSUFFICIENT_SCOPE: "this call needs the scope transactions:write",
    ProblemCode.NOT_FOUND: "there is nothing at this path",
    ProblemCode.WALLET_NOT_FOUND: f"no wallet {_ALICE}",
    ProblemCode.TRANSACTION_NOT_FOUND: f"no transaction {_TRANSACTION_ID}",
    ProblemCode.DEAD_LETTER_NOT_FOUND: f"no dead letter {_OUTBOX_ID}",
    ProblemCode.DEAD_LETTER_ENDED: "it was replayed before",
    ProblemCode.DEAD_LETTER_REFUSED: "unknown_version: version 2 is not 1",
    ProblemCode.REVIEW_NOT_FOUND: f"there is no review {_REVIEW_ID}",
    ProblemCode.REVIEW_DECIDED: "it was APPROVED before",
    ProblemCode.SEAL_NOT_FOUND: "nothing is sealed yet",
    ProblemCode.USER_NOT_FOUND: f"there is no user {_OUTBOX_ID}",
    ProblemCode.SESSION_NOT_FOUND: f"you have no session {_OUTBOX_ID}",
    ProblemCode.NOTIFICATION_NOT_FOUND: f"you have no notification {_OUTBOX_ID}",
    ProblemCode.WEBHOOK_NOT_FOUND: f"there is no webhook {_WEBHOOK_ID}",
    ProblemCode.DELIVERY_NOT_FOUND: f"there is no delivery {_WEBHOOK_ID}",
    ProblemCode.WEBHOOK_LIMIT_REACHED: "there are 20 already; delete one first",
    ProblemCode.USER_NOT_CHANGEABLE: "the account is deleted",
    ProblemCode.WALLET_LIMIT_REACHED: "an owner has at most 1 wallet in EUR",
    ProblemCode.METHOD_NOT_ALLOWED: "GET and POST are allowed here",
    ProblemCode.NOT_CANCELLABLE: f"the transaction {_TRANSACTION_ID} is COMPLETED",
    ProblemCode.WALLET_NOT_EMPTY: "the balance is 899.50 USD; a wallet is closed at zero",
    ProblemCode.WALLET_CLOSED: "a closed wallet stays closed",
    ProblemCode.OVERDRAFT_IN_USE: "the balance is -80.00 USD, below the new limit",
    ProblemCode.PRECONDITION_FAILED: "If-Match does not name the wallet's current ETag; read again",
    ProblemCode.NOT_PERMITTED: "the wallet of the outside world cannot be changed",
    ProblemCode.BODY_TOO_LARGE: "a body is at most 1048576 bytes",
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: "the content type is 'text/plain'",
    ProblemCode.REQUEST_TIMEOUT: "send the body within 30 s",
    ProblemCode.RATE_LIMITED: "ask again after Retry-After",
    ProblemCode.LIMITS_UNAVAILABLE: "log in again after Retry-After",
    ProblemCode.BACKLOG_FULL: "more than 1000000 transactions are waiting; try again in 5 s",
    ProblemCode.EVENTS_UNAVAILABLE: "the broker cannot be reached",
    ProblemCode.SIGN_IN_BUSY: "send it again after Retry-After",
    ProblemCode.SIGN_IN_UNAVAILABLE: "this server has no keys for access tokens",
    ProblemCode.DATABASE_UNAVAILABLE: "nothing was recorded; try again in 1 s",
    ProblemCode.INTERNAL_ERROR: "the request id finds the error in our logs",
}


def problem_example(code: ProblemCode, *, path: str) -> Json:
    """Return a problem of one kind, as a client of the path (with its variables) reads it."""
    kind = PROBLEMS[code]
    errors = []
    if code is ProblemCode.VALIDATION_FAILED:
        errors = [{"pointer": "/amount", "detail": "USD has 2 decimals, the amount has more"}]
    return {
        "type": f"/docs#problem-{code.value.replace('_', '-')}",
        "title": kind.title,
        "status": kind.status,
        "detail": _PROBLEM_DETAILS[code],
        "instance": path.format(
            wallet_id=_ALICE,
            transaction_id=_TRANSACTION_ID,
            dead_letter_id=_OUTBOX_ID,
            user_id=_OUTBOX_ID,
            session_id=_OUTBOX_ID,
            notification_id=_OUTBOX_ID,
            review_id=_REVIEW_ID,
            webhook_id=_WEBHOOK_ID,
            delivery_id=WEBHOOK_DELIVERY["id"],
        ),
        "code": code.value,
        "request_id": "checkout-7f3a",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "errors": errors,
    }


BATCH_RESULT: Final[Json] = {
    "items": [
        {"status_code": 202, "transaction": PENDING_TRANSACTION},
        {
            "status_code": 422,
            "problem": problem_example(
                ProblemCode.IDEMPOTENCY_KEY_REUSED, path="/v1/transactions/batch"
            ),
        },
    ]
}

READY: Final[Json] = {
    "status": "ready",
    "dependencies": {
        "database": {"state": "up", "detail": None},
        "broker": {"state": "up", "detail": None},
        "redis": {"state": "up", "detail": None},
    },
}
NOT_READY: Final[Json] = {
    "status": "not_ready",
    "dependencies": {
        "database": {"state": "down", "detail": "connection refused"},
        "broker": {"state": "up", "detail": None},
        "redis": {"state": "up", "detail": None},
    },
}

REQUESTED_MESSAGE: Final[Json] = {
    "version": 1,
    "idempotency_key": "order-4711-payment",
    **TRANSFER_REQUEST,
}
REQUESTED_BATCH_MESSAGE: Final[Json] = {"version": 1, **BATCH_REQUEST}
RECORDED_MESSAGE: Final[Json] = {"version": 1, "transaction_ids": [str(_TRANSACTION_ID)]}
RESULT_MESSAGE: Final[Json] = {"version": 1, "transactions": [TRANSACTION]}
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

SEAL: Final = render_seal(
    {
        "number": 4711,
        "until": _POSTED,
        "transactions": 1832,
        "audit_records": 2,
        "digest": bytes.fromhex("5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"),
        "previous": bytes.fromhex(
            "2c624232cdd221771294dfbb310aca000a0df6ac8b66b696d90ef06fdefb64a3"
        ),
        "sealed_at": _POSTED + timedelta(seconds=3),
        "signature": bytes(range(64)),
        "key_id": "9f86d081884c7d65",
    }
)
SEAL_PAGE: Final = {"items": [SEAL], "next_cursor": None}

_ACT: Final = render_audit_record(
    {
        "id": UUID("019aa3b1-0c4e-7a52-8001-3d6f1b2a9c71"),
        "occurred_at": _POSTED,
        "actor": "back-office",
        "action": "wallet.changed",
        "subject": "wallet:019aa3b1-0c4e-7a52-8001-3d6f1b2a9c70",
        "detail": b'{"fields":["status"],"status":"FROZEN","overdraft_limit":0}',
        "address": "192.0.2.7",
        "request_id": "support-4711",
    }
)
AUDIT_PAGE: Final = {"items": [_ACT], "next_cursor": None}

_OPEN_REVIEW: Final[dict[str, Any]] = {
    **_PENDING_ROW,
    "id": _REVIEW_ID,
    "state": "OPEN",
    "rule": "new-destination",
    "transaction_id": _TRANSACTION_ID,
    "transaction_status": "PENDING",
    "batch_id": None,
    "created_at": _POSTED,
    "decided_at": None,
    "decided_by": None,
    "reason": None,
}


def _decided(state: str, status: str, reason: str) -> Json:
    decision = {
        "state": state,
        "transaction_status": status,
        "decided_at": _POSTED + timedelta(minutes=7),
        "decided_by": "backoffice",
        "reason": reason,
    }
    return render_review(_OPEN_REVIEW | decision)


REVIEW_PAGE: Final = {"items": [render_review(_OPEN_REVIEW)], "next_cursor": None}
APPROVED_REVIEW: Final = _decided("APPROVED", "PENDING", "confirmed by telephone")
REFUSED_REVIEW: Final = _decided("REFUSED", "FAILED", "the destination is not known")
