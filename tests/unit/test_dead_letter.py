"""A dead letter is believed as far as its sender can be."""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from contracts.messages import (
    DETAIL_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    SUBMITTER_HEADER,
    TRANSACTION_HEADER,
    DeadLetterReason,
)
from dead_letters.model import HEADERS_BYTES_MAX, CollectedLetter, least_of, letter_of
from runtime.amqp.incoming import Properties

_OURSELVES = "ackledger"

_DEATH: dict[str, Any] = {
    "count": 1,
    "reason": "delivery_limit",
    "queue": "ackledger.transactions.0",
    "time": datetime(2026, 11, 21, tzinfo=UTC),
    "exchange": "ackledger.transactions",
    "routing-keys": ["any"],
}
_OURS: dict[str, Any] = {
    REASON_HEADER: "quarantined",
    DETAIL_HEADER: "DataError: no",
    QUEUE_HEADER: "ackledger.transactions.0",
    SUBMITTER_HEADER: "shop",
}


def _letter_of(body: bytes, properties: Basic.Properties) -> CollectedLetter:
    return letter_of(body, cast(Properties, properties), own_user=_OURSELVES)


@pytest.mark.parametrize(
    ("user", "is_believed"),
    [("ackledger-processor", True), ("ackledger-ingress", False), ("shop", False)],
)
def test_only_the_processor_is_believed_who_sent_a_message(user: str, *, is_believed: bool) -> None:
    properties = Basic.Properties(user_id=user, message_id="a", headers=dict(_OURS))

    letter = letter_of(b"{}", cast(Properties, properties), own_user="ackledger-reconciler")

    assert (letter.reason is DeadLetterReason.QUARANTINED) == is_believed


def test_the_headers_of_the_processor_are_believed() -> None:
    transaction_id = uuid4()
    headers: dict[str, Any] = {**_OURS, TRANSACTION_HEADER: str(transaction_id)}

    letter = _letter_of(
        b"{}", Basic.Properties(user_id=_OURSELVES, message_id="a", headers=headers)
    )

    assert letter.reason is DeadLetterReason.QUARANTINED
    assert letter.detail == "DataError: no"
    assert letter.queue == "ackledger.transactions.0"
    assert letter.submitter == "shop"
    assert letter.transaction_id == transaction_id
    assert letter.headers == "{}"


@pytest.mark.parametrize(
    "properties",
    [
        Basic.Properties(user_id="mallory", headers={**_OURS, "x-death": [_DEATH]}),
        Basic.Properties(user_id="mallory", headers=dict(_OURS)),
    ],
    ids=["buried by the broker", "published with a user"],
)
def test_an_upstream_cannot_speak_for_another(properties: Basic.Properties) -> None:
    assert _letter_of(b"{}", properties).submitter == "mallory"


def test_a_message_without_a_validated_user_has_no_submitter() -> None:
    letter = _letter_of(b"{}", Basic.Properties(headers={**_OURS, "x-death": [_DEATH]}))

    assert letter.submitter is None
    assert letter.reason is DeadLetterReason.DELIVERY_LIMIT
    assert letter.transaction_id is None


def test_an_unknown_reason_and_an_unreadable_id_are_no_obstacle() -> None:
    headers: dict[str, Any] = {
        **_OURS,
        REASON_HEADER: "new in version 9",
        TRANSACTION_HEADER: "seven",
    }

    letter = _letter_of(b"", Basic.Properties(user_id=_OURSELVES, headers=headers))

    assert letter.reason is DeadLetterReason.UNKNOWN
    assert letter.transaction_id is None


def test_text_that_a_database_cannot_hold_is_replaced() -> None:
    headers: dict[str, Any] = {**_OURS, DETAIL_HEADER: "a\x00b", QUEUE_HEADER: b"\xff"}

    letter = _letter_of(b"\x00", Basic.Properties(user_id=_OURSELVES, headers=headers))

    assert letter.detail == "a\N{REPLACEMENT CHARACTER}b"
    assert letter.queue == "\N{REPLACEMENT CHARACTER}"
    assert letter.body == b"\x00"


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        b"\xff",
        {1: [datetime.now(UTC)]},
        2**64,
        float("nan"),
        _nested(300),
        _nested(5000),
        "x" * 1_000_000,
    ],
    ids=["octets", "moment", "integer", "no number", "deep", "very deep", "long"],
)
def test_any_header_can_be_stored(value: Any) -> None:
    letter = _letter_of(b"", Basic.Properties(user_id=_OURSELVES, headers={**_OURS, "odd": value}))

    assert isinstance(orjson.loads(letter.headers), dict)
    assert len(letter.headers) <= HEADERS_BYTES_MAX


@given(st.binary(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_the_least_of_a_letter_is_bounded_ascii_and_keeps_its_reason(
    body: bytes, text: str, error: str
) -> None:
    headers: dict[str, Any] = {**_OURS, DETAIL_HEADER: text, SUBMITTER_HEADER: text, "odd": text}
    letter = _letter_of(body, Basic.Properties(user_id=_OURSELVES, message_id="1", headers=headers))

    least = least_of(letter, ValueError(error))

    texts = (least.message_id, least.queue, least.detail, least.submitter or "", least.headers)
    assert all(one.isascii() and (not one or one.isprintable()) for one in texts)
    assert (least.reason, least.transaction_id) == (letter.reason, letter.transaction_id)
    assert bytes.fromhex(least.body.decode()) == body
    assert least_of(letter, ValueError(error)).message_id == least.message_id


def test_the_same_delivery_has_the_same_name_and_another_has_not() -> None:
    def name(body: bytes = b"{}", message_id: str = "1", death: object = _DEATH["time"]) -> str:
        headers: dict[str, Any] = {"x-death": [{**_DEATH, "time": death}]}
        properties = Basic.Properties(user_id="shop", message_id=message_id, headers=headers)
        return _letter_of(body, properties).message_id

    names = {
        name(),
        name(body=b"[]"),
        name(message_id="2"),
        name(death=datetime(2026, 11, 22, tzinfo=UTC)),
    }
    assert name() == name()
    assert len(names) == 4
