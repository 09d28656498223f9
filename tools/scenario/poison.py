"""What must be refused: messages that become dead letters, requests that become problems. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson

from ackledger.client.publishing import UpstreamMessage
from contracts.messages import DeadLetterReason
from contracts.problems import PROBLEMS, ProblemCode
from contracts.requests.transaction import BATCH_MAX

_WALLET: Final = str(UUID(int=7))
_GOOD: Final[Mapping[str, Any]] = {
    "idempotency_key": "never-recorded",
    "type": "deposit",
    "destination_wallet_id": _WALLET,
    "amount": "1.00",
    "currency": "USD",
}
_LOPSIDED: Final[Mapping[str, Any]] = {
    "idempotency_key": "never-recorded",
    "type": "journal",
    "legs": [
        {"wallet_id": _WALLET, "amount": "1.00", "currency": "USD"},
        {"external": True, "amount": "-0.99", "currency": "USD"},
    ],
}
_FORCED: Final[Mapping[str, Any]] = {
    "idempotency_key": "never-recorded",
    "type": "reversal",
    "reverses": _WALLET,
    "force": True,
}
_HALF_GOOD: Final[Mapping[str, Any]] = {
    "mode": "atomic",
    "transactions": [_GOOD, {**_GOOD, "idempotency_key": "never-either", "amount": "-1.00"}],
}
_MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PoisonMessage:
    """A message, and why it becomes a dead letter."""

    reason: DeadLetterReason
    message: UpstreamMessage


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request, and the problem that answers it."""

    code: ProblemCode
    data: bytes
    path: str = "/v1/transactions"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The status that goes with the code."""
        return PROBLEMS[self.code].status


def poison_messages() -> list[PoisonMessage]:
    """Return one of each kind."""
    invalid, unknown = DeadLetterReason.INVALID_MESSAGE, DeadLetterReason.UNKNOWN_VERSION
    return [
        _poison(DeadLetterReason.NOT_JSON, b"{not json"),
        _poison(DeadLetterReason.NOT_JSON, _message(), content_type="text/plain"),
        _poison(DeadLetterReason.NOT_JSON, _message().replace(b'"1.00"', b"NaN")),
        _poison(unknown, _message(version=2)),
        _poison(unknown, _message(), type="transaction.requested.v9"),
        _poison(DeadLetterReason.UNKNOWN_TYPE, _message(), type="order.created"),
        _poison(DeadLetterReason.SUBMITTER_MISSING, _message(), sets_user=False),
        _poison(DeadLetterReason.MESSAGE_TOO_LARGE, _message() + b" " * _MEBIBYTE),
        _poison(invalid, b"[1, 2, 3]"),
        _poison(invalid, _message(colour="red")),
        _poison(invalid, _message(amount="-1.00")),
        _poison(invalid, _message(amount="1.001")),
        _poison(invalid, _message(idempotency_key="")),
        _poison(invalid, _message(hold_id=_WALLET)),
        _poison(invalid, orjson.dumps({"version": 1, **_LOPSIDED})),
        _poison(DeadLetterReason.NOT_PERMITTED, orjson.dumps({"version": 1, **_FORCED})),
        _poison(invalid, orjson.dumps({"version": 1, **_HALF_GOOD})),
        _poison(invalid, orjson.dumps({"version": 1, "transactions": []})),
        _poison(invalid, orjson.dumps({"version": 1, "transactions": [_GOOD] * (BATCH_MAX + 1)})),
    ]


def bad_requests() -> list[BadRequest]:
    """Return one of each kind."""
    batch = "/v1/transactions/batch"
    invalid = ProblemCode.VALIDATION_FAILED
    return [
        BadRequest(ProblemCode.MALFORMED_JSON, b'{"type": "deposit"'),
        BadRequest(invalid, _request(colour="red")),
        BadRequest(invalid, _request(amount="0")),
        BadRequest(invalid, _request(amount="1.001")),
        BadRequest(invalid, _request(currency="XXQ")),
        BadRequest(invalid, _request().replace(b'"1.00"', b"1e400")),
        BadRequest(invalid, _request(hold_id=_WALLET)),
        BadRequest(invalid, _request(execute_at="2999-01-01T00:00:00Z")),
        BadRequest(invalid, orjson.dumps(_LOPSIDED)),
        BadRequest(invalid, orjson.dumps(_HALF_GOOD), path=batch),
        BadRequest(invalid, b'{"transactions": []}', path=batch),
        BadRequest(invalid, _batch(BATCH_MAX + 1), path=batch),
        BadRequest(ProblemCode.IDEMPOTENCY_KEY_MISSING, _request(idempotency_key=None)),
        BadRequest(ProblemCode.IDEMPOTENCY_KEY_INVALID, _request(idempotency_key="k" * 256)),
        BadRequest(
            ProblemCode.UNSUPPORTED_MEDIA_TYPE, _request(), headers={"Content-Type": "text/plain"}
        ),
        BadRequest(
            ProblemCode.UNAUTHENTICATED, _request(), headers={"Authorization": "Bearer ack_no"}
        ),
        BadRequest(ProblemCode.BODY_TOO_LARGE, _request() + b" " * _MEBIBYTE),
    ]


def _poison(reason: DeadLetterReason, body: bytes, **properties: Any) -> PoisonMessage:
    return PoisonMessage(reason, UpstreamMessage(routing_key=_WALLET, body=body, **properties))


def _message(**changes: object) -> bytes:
    return orjson.dumps({"version": 1, **_GOOD, **changes})


def _request(**changes: object) -> bytes:
    wanted = {**_GOOD, **changes}
    return orjson.dumps({name: value for name, value in wanted.items() if value is not None})


def _batch(count: int) -> bytes:
    return orjson.dumps({"transactions": [_GOOD] * count})
