"""Messages that were ever published must be read for ever: each version has its fixtures here.

A new version adds files; none is ever changed.
"""

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from contracts.messages import (
    MESSAGE_BYTES_MAX,
    DeadLetterReason,
    PoisonMessageError,
    Recorded,
    Requested,
    decode_message,
    encode_recorded,
)
from contracts.money import Money

_MESSAGES = Path(__file__).parent / "messages"
A = UUID("01930000-0000-7000-8000-00000000000a")
B = UUID("01930000-0000-7000-8000-00000000000b")
C = UUID("01930000-0000-7000-8000-00000000000c")
D = UUID("01930000-0000-7000-8000-00000000000d")
MOMENT = datetime(2026, 11, 30, 23, tzinfo=UTC)
LATER = "2026-12-01T00:00:00Z"
LEAST = {
    "idempotency_key": "1",
    "type": "deposit",
    "destination_wallet_id": str(A),
    "amount": "1",
    "currency": "USD",
}
TERMS_FINGERPRINT = "04d942735deceeb4e66312d487575e49964cecf50d6baee2678abb8f56f1c14b"
FINGERPRINT = "934f37b954d98d95f6875b7150c87bcd3bc2486974a5eafe7fca5346153128eb"


def _decode(body: bytes, **properties: Any) -> Recorded | Requested:
    settings = {
        "message_type": "transaction.requested.v1",
        "content_type": "application/json",
        "user_id": "shop",
        **properties,
    }
    return decode_message(body, **settings)


def _fixture(name: str) -> bytes:
    return (_MESSAGES / f"{name}.json").read_bytes()


def test_a_request_of_version_1_is_read_whole() -> None:
    decoded = _decode(_fixture("transaction.requested.v1"))

    assert isinstance(decoded, Requested)
    (command,) = decoded.commands
    assert (decoded.submitter, decoded.is_batch) == ("shop", False)
    assert (command.idempotency_key, command.type) == ("order-4711", "transfer")
    assert (command.source_wallet_id, command.destination_wallet_id) == (A, B)
    assert (command.money, command.description) == (Money(1000, "USD"), "Order 4711")
    assert command.metadata == b'{"order":4711}'


def test_the_fingerprint_of_version_1_never_changes() -> None:
    """A replay years later must still be found to be the same content."""
    decoded = _decode(_fixture("transaction.requested.v1"))

    assert isinstance(decoded, Requested)
    assert decoded.commands[0].fingerprint.hex() == FINGERPRINT


def test_the_least_request_of_version_1_is_enough() -> None:
    decoded = _decode(_fixture("transaction.requested.v1.least"))

    assert isinstance(decoded, Requested)
    assert decoded.commands[0].money == Money(1000, "JPY")


def test_a_batch_of_version_1_keeps_its_order() -> None:
    decoded = _decode(_fixture("transaction.requested.v1.batch"))

    assert isinstance(decoded, Requested)
    assert decoded.is_batch
    assert [one.idempotency_key for one in decoded.commands] == ["order-4711", "w-1"]
    assert decoded.commands[1].money == Money(1234, "KWD")


def test_terms_of_version_1_are_read_whole() -> None:
    decoded = _decode(_fixture("transaction.requested.v1.terms"))

    assert isinstance(decoded, Requested)
    assert (decoded.is_batch, decoded.is_atomic) == (True, True)
    hold, capture, release, journal, reversal = decoded.commands
    terms = [one.terms for one in decoded.commands]
    assert None not in terms
    assert len({one.batch_id for one in terms if one}) == 1
    assert [one.money for one in decoded.commands] == [Money(1000, "USD"), *[None] * 4]
    assert [one and one.other_id for one in terms] == [None, C, C, None, D]
    assert [one and one.amount for one in terms] == [
        None, Decimal("2.50"), None, None, Decimal("1.20"),
    ]  # fmt: skip
    assert (hold.source_wallet_id, hold.destination_wallet_id) == (A, B)
    assert hold.terms
    assert (hold.terms.expires_in_s, hold.terms.valid_until) == (3600, MOMENT)
    assert list(hold.terms.conditions) == [
        {
            "wallet_id": str(A),
            "version": 3,
            "available_at_least": "0",
            "balance_at_most": "-1.5",
        }
    ]
    assert (capture.type, capture.terms and capture.terms.is_final) == ("capture", False)
    assert (release.type, reversal.type) == ("release", "reversal")
    # The first wallet that it debits says where it stands in the order.
    assert (journal.source_wallet_id, journal.destination_wallet_id) == (A, None)
    assert journal.terms
    assert [(one.minor, one.is_external) for one in journal.terms.legs] == [
        (-300, True), (400, False), (-100, False),
    ]  # fmt: skip


def test_the_fingerprints_of_terms_of_version_1_never_change() -> None:
    decoded = _decode(_fixture("transaction.requested.v1.terms"))

    assert isinstance(decoded, Requested)
    whole = hashlib.sha256(b"".join(one.fingerprint for one in decoded.commands)).hexdigest()
    assert whole == TERMS_FINGERPRINT


def test_force_is_not_for_upstream_systems() -> None:
    reversal = {
        "version": 1,
        "idempotency_key": "r",
        "type": "reversal",
        "reverses": str(D),
        "force": True,
    }
    with pytest.raises(PoisonMessageError) as caught:
        _decode(orjson.dumps(reversal))

    assert caught.value.reason is DeadLetterReason.NOT_PERMITTED


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"mode": "together"}, "mode"),
        ({"mode": None}, "mode"),
        ({"more": 1}, "version and mode"),
        ({"transactions": [LEAST, LEAST]}, "/transactions/1/idempotency_key"),
        (
            {"transactions": [LEAST, {**LEAST, "idempotency_key": "2", "execute_at": LATER}]},
            "/transactions/1/execute_at",
        ),
    ],
)
def test_an_atomic_batch_that_is_none_is_poison(changed: dict[str, Any], place: str) -> None:
    with pytest.raises(PoisonMessageError) as caught:
        _decode(orjson.dumps({"version": 1, "mode": "atomic", "transactions": [LEAST], **changed}))

    assert caught.value.reason is DeadLetterReason.INVALID_MESSAGE
    assert place in caught.value.detail


def test_recorded_ids_of_version_1_are_read_and_written_the_same() -> None:
    body = _fixture("transaction.recorded.v1")

    assert _decode(body, message_type="transaction.recorded.v1") == Recorded([A, B])
    assert orjson.loads(encode_recorded([A, B])) == orjson.loads(body)


def _nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return {"a": value}


def _with(**fields: Any) -> bytes:
    return orjson.dumps({**orjson.loads(_fixture("transaction.requested.v1")), **fields})


@pytest.mark.parametrize(
    ("body", "properties", "reason"),
    [
        (b"{", {}, DeadLetterReason.NOT_JSON),
        (b"\xff\xfe", {}, DeadLetterReason.NOT_JSON),
        (b'{"version": NaN}', {}, DeadLetterReason.NOT_JSON),
        (b"[" * 100_000, {}, DeadLetterReason.NOT_JSON),
        (_with(metadata=_nested(31)), {}, DeadLetterReason.NOT_JSON),
        (_with(metadata=_nested(16)), {}, DeadLetterReason.INVALID_MESSAGE),
        (_with()[:-1] + b',"amount":"2.00"}', {}, DeadLetterReason.NOT_JSON),
        (_with(metadata={"a": [1] * 64_000}), {}, DeadLetterReason.NOT_JSON),
        (_with(metadata={"a": [1] * 256}), {}, DeadLetterReason.INVALID_MESSAGE),
        (
            _with(metadata={"a": 1})[:-2] + b".1234567890123456789}}",
            {},
            DeadLetterReason.INVALID_MESSAGE,
        ),
        (_with(amount="10000000000000.01"), {}, DeadLetterReason.INVALID_MESSAGE),
        (
            _with(**{str(number): 0 for number in range(50_000)}),
            {},
            DeadLetterReason.INVALID_MESSAGE,
        ),
        (_with(), {"content_type": "text/plain"}, DeadLetterReason.NOT_JSON),
        (b"[]", {}, DeadLetterReason.INVALID_MESSAGE),
        (_with(version=2), {}, DeadLetterReason.UNKNOWN_VERSION),
        (_with(version="1"), {}, DeadLetterReason.UNKNOWN_VERSION),
        (_with(version=True), {}, DeadLetterReason.UNKNOWN_VERSION),
        (
            _with(),
            {"message_type": "transaction.requested.v2"},
            DeadLetterReason.UNKNOWN_VERSION,
        ),
        (_with(), {"message_type": "order.placed"}, DeadLetterReason.UNKNOWN_TYPE),
        (_with(), {"user_id": None}, DeadLetterReason.SUBMITTER_MISSING),
        (_with(surprise=1), {}, DeadLetterReason.INVALID_MESSAGE),
        (_with(amount="0"), {}, DeadLetterReason.INVALID_MESSAGE),
        (_with(idempotency_key=""), {}, DeadLetterReason.INVALID_MESSAGE),
        (_with(transactions=[]), {}, DeadLetterReason.INVALID_MESSAGE),
        (
            orjson.dumps({"version": 1, "transactions": [{}] * 1001}),
            {},
            DeadLetterReason.INVALID_MESSAGE,
        ),
        (b" " * (MESSAGE_BYTES_MAX + 1), {}, DeadLetterReason.MESSAGE_TOO_LARGE),
        (
            b'{"version": 1, "transaction_ids": ["x"]}',
            {"message_type": "transaction.recorded.v1"},
            DeadLetterReason.INVALID_MESSAGE,
        ),
    ],
)
def test_a_message_that_breaks_the_contract_names_its_reason(
    body: bytes, properties: dict[str, Any], reason: DeadLetterReason
) -> None:
    with pytest.raises(PoisonMessageError) as caught:
        _decode(body, **properties)

    assert caught.value.reason is reason
    assert caught.value.detail


def test_the_fullest_transaction_is_not_too_wide() -> None:
    names = [f"{number:x}" for number in range(250)]
    colons = dict.fromkeys(names, ":::")
    body = _with(description=":" * 500, idempotency_key=":" * 255, metadata=colons)
    message = orjson.loads(body)
    item = {name: value for name, value in message.items() if name != "version"}
    items = [{**item, "idempotency_key": f"{number}{':' * 250}"} for number in range(150)]

    many = _decode(orjson.dumps({"version": 1, "transactions": items}))
    assert isinstance(many, Requested)
    assert len(many.commands) == 150
    assert isinstance(_decode(body), Requested)


@pytest.mark.parametrize("prefix", ["", '"idempotency_key":"k",' * 40])
def test_a_message_of_countless_fields_is_refused_by_its_width(prefix: str) -> None:
    """Whether they are counted before or after the body is read; the detail stays short."""
    fields = ",".join(f'"{number}":0' for number in range(90_000))

    with pytest.raises(PoisonMessageError) as caught:
        _decode(f'{{"version":1,{prefix}{fields}}}'.encode())

    assert caught.value.reason in {DeadLetterReason.INVALID_MESSAGE, DeadLetterReason.NOT_JSON}
    assert len(caught.value.detail) < 400


def test_the_unknown_fields_that_a_detail_names_are_few() -> None:
    with pytest.raises(PoisonMessageError) as caught:
        _decode(_with(**{f"unknown_{number}": 0 for number in range(500)}))

    assert caught.value.detail.count("/unknown_") <= 20
