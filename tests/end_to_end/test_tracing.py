"""One request id and one trace id, from the request through the message to the commit."""

from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts.topology import EVENTS_EXCHANGE
from runtime.postgres.pool import connect
from tests.end_to_end.conftest import Plant
from tests.integration.processor.correspondents import Listener, listening
from tests.support import deposit, eventually, requested


async def _row(plant: Plant, key: str) -> Any:
    connection = await connect(plant.database_url, name="test")
    try:
        return await connection.fetchrow(
            "SELECT id, request_id, traceparent FROM transactions WHERE idempotency_key = $1", key
        )
    finally:
        await connection.close()


async def _headers_of(listener: Listener, key: str) -> dict[str, Any]:
    while True:
        message = await listener.next()
        if orjson.loads(message.body)["idempotency_key"] == key:
            return dict(message.headers)


async def _logged(plant: Plant, event: str, transaction_id: str) -> dict[str, Any]:
    """Return the line with which our processes tell of a transaction."""

    async def look() -> dict[str, Any] | None:
        for name in ("ingress", "processor", "standby"):
            for line in plant.system.log(name).read_bytes().splitlines():
                if event.encode() in line and transaction_id.encode() in line:
                    found: dict[str, Any] = orjson.loads(line)
                    return found
        return None

    return await eventually(look, what=f"{event} of {transaction_id} is logged")


def _traceparent() -> str:
    return f"00-{uuid4().hex}-{uuid4().hex[:15]}1-01"


@pytest.mark.parametrize("request_id", ["checkout-7f3a", None])
@pytest.mark.parametrize("is_traced", [True, False])
async def test_a_request_keeps_its_names_until_the_event(
    plant: Plant, request_id: str | None, *, is_traced: bool
) -> None:
    wallet, key, traceparent = await plant.api.create_wallet(), uuid4().hex, _traceparent()
    headers = {"Idempotency-Key": key, "Prefer": "wait=20"}
    headers |= {"X-Request-Id": request_id} if request_id else {}
    headers |= {"traceparent": traceparent} if is_traced else {}
    async with listening(plant.stack.rabbitmq.url, exchange=EVENTS_EXCHANGE) as listener:
        answer = await plant.api.call(
            "POST", "/v1/transactions", json=deposit(wallet, "1.00"), headers=headers
        )
        event = await _headers_of(listener, key)
    row = await _row(plant, key)
    trace_id = row["traceparent"].split("-")[1]
    told = [
        await _logged(plant, name, answer.json["id"])
        for name in ("transaction_recorded", "transaction_committed")
    ]

    assert answer.headers["X-Request-Id"] == (request_id or trace_id)
    assert row["request_id"] == request_id
    assert event["traceparent"] == row["traceparent"]
    assert event.get("x-request-id") == request_id
    assert {line["request_id"] for line in told} == {request_id or trace_id}
    assert {line["trace_id"] for line in told} == {trace_id}
    if is_traced:
        assert row["traceparent"] == traceparent


async def test_a_message_keeps_its_names_until_the_event(plant: Plant) -> None:
    wallet, key, traceparent = await plant.api.create_wallet(), uuid4().hex, _traceparent()
    message = requested(deposit(wallet, "1.00"), key=key)
    names = {"traceparent": traceparent, "x-request-id": "upstream-1"}
    async with (
        plant.upstream() as upstream,
        listening(plant.stack.rabbitmq.url, exchange=EVENTS_EXCHANGE) as listener,
    ):
        await upstream.publish(message, routing_key=wallet, headers=dict(names))
        event = await _headers_of(listener, key)
    row = await _row(plant, key)

    assert (row["traceparent"], row["request_id"]) == (traceparent, "upstream-1")
    assert {name: event[name] for name in names} == names


async def test_the_trace_of_the_first_request_stays_when_it_is_replayed(plant: Plant) -> None:
    wallet, key, first = await plant.api.create_wallet(), uuid4().hex, _traceparent()
    for traceparent in (first, _traceparent()):
        await plant.api.call(
            "POST",
            "/v1/transactions",
            json=deposit(wallet, "1.00"),
            headers={"Idempotency-Key": key, "Prefer": "wait=20", "traceparent": traceparent},
        )

    assert (await _row(plant, key))["traceparent"] == first
