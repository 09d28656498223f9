"""Spans of a real system, as a receiver of OTLP gets them."""

import asyncio
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from contracts.topology import partition_queue
from runtime.postgres.pool import connect
from tests.end_to_end.conftest import Plant
from tests.end_to_end.traces import Received
from tests.support import Answer, Api, deposit, requested

pytestmark = pytest.mark.long

_STEPS = [
    ("POST /v1/transactions", Span.SPAN_KIND_SERVER, "ackledger-ingress"),
    ("INSERT transactions", Span.SPAN_KIND_CLIENT, "ackledger-ingress"),
    ("publish ackledger.transactions.0", Span.SPAN_KIND_PRODUCER, "ackledger-ingress"),
    ("post transaction", Span.SPAN_KIND_CONSUMER, "ackledger-processor"),
    ("publish ackledger.events.bundles", Span.SPAN_KIND_PRODUCER, "ackledger-processor"),
]


def _steps(spans: list[Received]) -> list[tuple[str, int, str]]:
    return [(one.span.name, one.span.kind, one.service) for one in spans]


async def _submit(plant: Plant, wallet: str, **headers: str) -> Answer:
    async with Api(plant.limited_url, plant.system.api_key) as api:
        return await api.call(
            "POST",
            "/v1/transactions",
            json=deposit(wallet, "1.00"),
            headers={"Idempotency-Key": uuid4().hex, **headers},
        )


async def _row(plant: Plant, transaction_id: str) -> Any:
    connection = await connect(plant.database_url, name="test")
    try:
        return await connection.fetchrow(
            "SELECT traceparent FROM transactions WHERE id = $1", transaction_id
        )
    finally:
        await connection.close()


async def test_a_transaction_is_one_trace_from_the_request_to_its_event(plant: Plant) -> None:
    wallet, trace_id, parent_id = await plant.api.create_wallet(), uuid4().hex, uuid4().hex[:16]
    sent = await _submit(plant, wallet, traceparent=f"00-{trace_id}-{parent_id}-01")
    spans = await plant.traces.of_trace(trace_id, len(_STEPS))
    server, *beneath = spans
    [posting] = [one for one in spans if one.span.name == "post transaction"]
    [batch_id] = posting.linked_traces
    batch, commit = await plant.traces.of_trace(batch_id, 2)

    assert _steps(spans) == _STEPS
    assert (server.parent_id, {one.parent_id for one in beneath}) == (parent_id, {server.span_id})
    assert server.attributes["http.response.status_code"] == sent.status == 202
    ids = {one.attributes["ackledger.transaction.id"] for one in beneath}
    assert ids == {sent.json["id"]}
    # The row names the request's span, so whatever posts it, and whenever, stands beneath it.
    row = await _row(plant, sent.json["id"])
    assert row["traceparent"] == f"00-{trace_id}-{server.span_id}-01"
    assert trace_id in batch.linked_traces
    assert (commit.span.name, commit.parent_id) == ("COMMIT batch", batch.span_id)


async def test_a_republished_transaction_stays_in_the_trace_of_its_client(plant: Plant) -> None:
    """Its announcement is lost with all that its queue holds; the reconciler announces it again."""
    wallet, trace_id, parent_id = await plant.api.create_wallet(), uuid4().hex, uuid4().hex[:16]
    for name in ("processor", "standby"):
        await asyncio.to_thread(plant.system.halt, name)
    try:
        await _submit(plant, wallet, traceparent=f"00-{trace_id}-{parent_id}-01")
        async with await aio_pika.connect(plant.stack.rabbitmq.url) as connection:
            channel = await connection.channel()
            await (await channel.get_queue(partition_queue(0), ensure=False)).purge()
    finally:
        for name in ("processor", "standby"):
            await asyncio.to_thread(plant.system.restart, name)
    spans = await plant.traces.of_trace(trace_id, len(_STEPS) + 1)
    server, *beneath = spans

    again = ("publish ackledger.transactions.0", Span.SPAN_KIND_PRODUCER, "ackledger-reconciler")
    assert _steps(spans) == [*_STEPS[:3], again, *_STEPS[3:]]
    assert {one.parent_id for one in beneath} == {server.span_id}


async def test_a_message_is_posted_in_the_trace_of_its_sender(plant: Plant) -> None:
    wallet, trace_id, parent_id = await plant.api.create_wallet(), uuid4().hex, uuid4().hex[:16]
    async with plant.upstream() as upstream:
        await upstream.publish(
            requested(deposit(wallet, "1.00")),
            routing_key=wallet,
            headers={"traceparent": f"00-{trace_id}-{parent_id}-01"},
        )
    spans = await plant.traces.of_trace(trace_id, 2)

    assert _steps(spans) == _STEPS[-2:]
    assert {one.parent_id for one in spans} == {parent_id}


async def test_a_refused_request_has_a_span_and_its_problem_names_the_trace(plant: Plant) -> None:
    async with Api(plant.limited_url, None) as api:
        refused = await api.call("POST", "/v1/transactions", json={}, headers={})
    trace_id = refused.json["trace_id"]
    [span] = await plant.traces.of_trace(trace_id, 1)

    assert (refused.status, refused.json["request_id"]) == (401, trace_id)
    assert (span.attributes["http.response.status_code"], span.parent_id) == (401, "")
