"""From arrivals to what they ask for: nothing raises, and nothing keeps an error alive."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.header import ContentHeader

from contracts.messages import DeadLetterReason, Recorded, Requested, encode_recorded
from processor.intake import Poison, decoded, estimated_transactions
from runtime.amqp.incoming import Arrival, DeliveringChannel, Properties
from tests.support import deposit, requested

_AT = 12  # of a content header: class, weight and the body's size come first
_OWN = "ackledger"


def _arrival(body: bytes, **properties: Any) -> Arrival:
    header = ContentHeader(properties=commands.Basic.Properties(**properties)).marshal()
    return Arrival(cast(DeliveringChannel, None), 1, Properties(header[_AT:]), body)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_no_octets_raise(properties: bytes, body: bytes) -> None:
    arrival = Arrival(cast(DeliveringChannel, None), 1, Properties(properties), body)

    delivery = decoded(arrival, own_user=_OWN)

    assert isinstance(delivery.content, Poison | Requested | Recorded)
    assert delivery.weight >= 1
    assert estimated_transactions(arrival) >= 1


def test_poison_is_a_value_with_its_reason() -> None:
    delivery = decoded(_arrival(b"not JSON", user_id="shop"), own_user=_OWN)

    assert isinstance(delivery.content, Poison)
    assert not isinstance(delivery.content, BaseException)
    assert delivery.content.reason is DeadLetterReason.NOT_JSON
    assert (delivery.items, delivery.weight) == ([], 1)


def test_recorded_ids_of_another_user_are_poison() -> None:
    body = encode_recorded([uuid4()])
    arrival = _arrival(body, user_id="shop", message_type="transaction.recorded.v1")

    content = decoded(arrival, own_user=_OWN).content

    assert isinstance(content, Poison)
    assert content.reason is DeadLetterReason.NOT_PERMITTED
    assert isinstance(decoded(arrival, own_user="shop").content, Recorded)


@pytest.mark.parametrize("user", ["ackledger", "ackledger-ingress", "ackledger-reconciler"])
def test_recorded_ids_of_another_process_of_ours_are_taken(user: str) -> None:
    body = encode_recorded([uuid4()])
    arrival = _arrival(body, user_id=user, message_type="transaction.recorded.v1")

    assert isinstance(decoded(arrival, own_user="ackledger-processor").content, Recorded)


def test_a_process_of_ours_that_submits_is_poison() -> None:
    """Whoever took an ingress over can write to any queue, and moves no money by that."""
    body = {"version": 1, "idempotency_key": "k", **deposit(str(uuid4()), "1.00")}
    arrival = _arrival(orjson.dumps(body), user_id="ackledger-ingress")

    content = decoded(arrival, own_user="ackledger-processor").content

    assert isinstance(content, Poison)
    assert content.reason is DeadLetterReason.NOT_PERMITTED


@pytest.mark.parametrize("count", [1, 2, 256, 1000])
def test_recorded_ids_are_counted_by_the_length_of_their_message(count: int) -> None:
    body = encode_recorded([uuid4() for _ in range(count)])

    assert estimated_transactions(_arrival(body, message_type="transaction.recorded.v1")) == count


@pytest.mark.parametrize("count", [1, 20, 1000])
def test_requested_transactions_are_counted_by_their_keys(count: int) -> None:
    wallet = str(uuid4())
    items = [{**deposit(wallet, "1.00"), "idempotency_key": uuid4().hex} for _ in range(count)]
    body = orjson.dumps({"version": 1, "transactions": items})

    assert estimated_transactions(_arrival(body, user_id="shop")) == count
    single = orjson.dumps(requested(deposit(wallet, "1.00")))
    assert estimated_transactions(_arrival(single, user_id="shop")) == 1


@pytest.mark.parametrize(("days", "is_taken"), [(365, True), (367, False)])
def test_what_is_scheduled_too_far_ahead_is_poison(days: int, *, is_taken: bool) -> None:
    at = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    near = {**deposit(str(uuid4()), "1.00"), "idempotency_key": "near"}
    body = {"version": 1, "transactions": [near, {**near, "execute_at": at}]}

    content = decoded(_arrival(orjson.dumps(body), user_id="shop"), own_user=_OWN).content

    assert isinstance(content, Requested) == is_taken
    if isinstance(content, Poison):
        assert content.reason is DeadLetterReason.INVALID_MESSAGE
        assert content.detail.startswith("/transactions/1: /execute_at")
