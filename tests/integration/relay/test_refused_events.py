"""A subscriber whose queue is full waits for its own events; the others get theirs at once."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import orjson
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dead_letters.model import DeadLetterFilter
from dead_letters.operations import DeadLetters
from processor.events.relay import LEFT_BEHIND_S
from processor.traces import EventTraces
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from runtime.tracing.exporting import ExportingTracer
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import bind_queue, depth, emptied
from tests.integration.relay.relaying import (
    assert_each_has_one_event,
    event_ids,
    ids_of,
    letters,
    owed_rows,
    post,
    relay_of,
    set_aside_findings,
    waiting_events,
)
from tests.support import eventually

pytestmark = pytest.mark.long

_HEALTHY = "healthy"
_FULL = "full"
_ROOM = 5
_ID = "ackledger.transaction.id"


async def _nothing_is_owed(database: Connection, *, within_s: float = 20) -> None:
    async def look() -> bool:
        return await owed_rows(database) == 0

    await eventually(look, what="nothing is owed any more", within_s=within_s)


async def _nobody_waits(database: Connection) -> None:
    async def look() -> bool:
        return await waiting_events(database) == 0

    await eventually(look, what="no refused event waits any more", within_s=40)


async def _bind_both(channel: Channel) -> None:
    """Bind two subscribers' queues: one takes every event, one refuses all beyond the first few."""
    await bind_queue(channel, _HEALTHY)
    await bind_queue(channel, _FULL, refuses_beyond=_ROOM)


def _firsts(ids: Sequence[UUID]) -> list[UUID]:
    """Return each id where it came first."""
    return list(dict.fromkeys(ids))


async def test_a_full_queue_keeps_nobody_else_waiting(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind_both(channel)
    ids = await post(pool, database, batches=4, batch=100)

    async with running(relay_of(pool, publisher)):
        # What another process posted is left to it for a second.
        await _nothing_is_owed(database, within_s=LEFT_BEHIND_S + 2)
        assert await depth(channel, _HEALTHY) >= len(ids)
        # A second load goes the same way while the first one's line is full.
        later = await post(pool, database, batches=2, batch=100)
        await _nothing_is_owed(database, within_s=LEFT_BEHIND_S + 2)
    arrived = await emptied(channel, _HEALTHY)

    assert _firsts(ids_of(arrived)) == [*ids, *later]
    assert await waiting_events(database) > 0
    assert await letters(database) == []


async def test_a_queue_that_has_room_again_gets_its_own_in_their_order(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind_both(channel)
    ids = await post(pool, database, batches=3, batch=100)
    async with running(relay_of(pool, publisher)):
        await _nothing_is_owed(database)
        waiting = await waiting_events(database)

        early = ids_of(await emptied(channel, _FULL))
        # The same queue without its bound: its owner made room.
        await channel.queue_delete(_FULL)
        await bind_queue(channel, _FULL)
        await _nobody_waits(database)
        got = ids_of(await emptied(channel, _FULL))

    assert waiting > 0
    assert {*early, *got} == set(ids)
    late = [one for one in _firsts(got) if one not in early]
    assert late == sorted(late, key=ids.index)
    assert_each_has_one_event(await emptied(channel, _HEALTHY), ids)


async def test_an_event_that_is_sent_again_stays_in_its_transactions_trace(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    exporter = InMemorySpanExporter()
    tracer = ExportingTracer(SimpleSpanProcessor(exporter), service="test")
    await bind_queue(channel, _FULL, refuses_beyond=_ROOM)
    ids = await post(pool, database, batches=1, batch=20)
    traces = {one: f"{number + 1:032x}" for number, one in enumerate(ids)}
    for one, trace_id in traces.items():
        await database.execute(
            "UPDATE transactions SET traceparent = $2 WHERE id = $1",
            one,
            f"00-{trace_id}-{7:016x}-01",
        )
    async with running(relay_of(pool, publisher, traces=EventTraces(tracer))):
        await _nothing_is_owed(database)
        await channel.queue_delete(_FULL)
        await bind_queue(channel, _FULL)
        await _nobody_waits(database)
    spans = defaultdict(list)
    for span in exporter.get_finished_spans():
        assert span.parent is not None
        assert span.attributes is not None
        assert f"{span.parent.trace_id:032x}" == traces[UUID(str(span.attributes[_ID]))]
        spans[span.parent.trace_id].append(span.status.status_code)

    assert len(spans) == len(ids)
    # Those that were refused at first were taken at last, in the same trace.
    assert {found[-1] for found in spans.values()} == {StatusCode.UNSET}
    assert any(found[0] is StatusCode.ERROR for found in spans.values())


async def test_the_others_get_few_duplicates_while_a_queue_is_full(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind_both(channel)
    ids = await post(pool, database, batches=2, batch=100)
    async with running(relay_of(pool, publisher)):
        await _nothing_is_owed(database)

        async def was_tried_again() -> bool:
            return await depth(channel, _HEALTHY) >= len(ids) + 3

        await eventually(was_tried_again, what="three more tries")

    assert_each_has_one_event(await emptied(channel, _HEALTHY), ids)
    # One event a try: the line's first.
    tried = await database.fetchval("SELECT max(attempts) FROM refused_events")
    assert tried <= 10


async def test_a_line_waits_for_its_own_queue_alone(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await channel.queue_declare(_HEALTHY, durable=True)
    await channel.queue_bind(_HEALTHY, "ackledger.events", "transaction.completed.#")
    await channel.queue_declare(
        _FULL, durable=True, arguments={"x-max-length": _ROOM, "x-overflow": "reject-publish"}
    )
    await channel.queue_bind(_FULL, "ackledger.events", "transaction.failed.#")
    ids = await post(pool, database, batches=2, batch=60)
    await database.execute(
        "UPDATE outbox SET event_type = 'failed' WHERE transaction_ids @> $1", ids[:1]
    )

    async with running(relay_of(pool, publisher)):
        await _nothing_is_owed(database)

    assert ids_of(await emptied(channel, _HEALTHY)) == ids[60:]
    keys = await database.fetch("SELECT DISTINCT routing_key FROM refused_events")
    assert [one["routing_key"] for one in keys] == ["transaction.failed.transfer.USD"]


async def test_what_is_refused_for_too_long_is_set_aside_and_can_be_released(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _FULL, refuses_beyond=_ROOM)
    ids = await post(pool, database, batches=2, batch=100)
    dead_letters = DeadLetters(pool=pool, publisher=publisher, partitions=1)
    async with running(relay_of(pool, publisher, refused_kept_s=0.5)):
        await _nothing_is_owed(database)
        await _nobody_waits(database)
        stored = await letters(database)
        got = await emptied(channel, _FULL)
        found = await set_aside_findings(database)

        await channel.queue_delete(_FULL)
        await bind_queue(channel, _FULL)
        wanted = DeadLetterFilter(reason="event_rejected")
        async for letter_id in dead_letters.select(wanted):
            assert (await dead_letters.replay(letter_id, actor="test")).fate == "replayed"
        await _nothing_is_owed(database)
        got += await emptied(channel, _FULL)

    assert {one["reason"] for one in stored} == {"event_rejected"}
    assert set(ids_of(got)) == set(ids)
    assert_each_has_one_event(got, ids)
    assert found == [f"dead letter {one['id']}" for one in stored]
    told = event_ids(got)
    for one in stored:
        event = orjson.loads(one["body"])
        assert told[UUID(event["transaction_id"])] == {event["event_id"]}


@pytest.mark.parametrize("relays", [2])
async def test_two_relays_empty_a_line_together(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel, relays: int
) -> None:
    await bind_queue(channel, _FULL, refuses_beyond=_ROOM)
    ids = await post(pool, database, batches=3, batch=50)
    await relay_of(pool, publisher).run_once()
    await channel.queue_delete(_FULL)
    await bind_queue(channel, _FULL)
    waiting = await waiting_events(database)
    async with asyncio.TaskGroup() as group:
        running_relays = [group.create_task(relay_of(pool, publisher).run()) for _ in range(relays)]
        await _nobody_waits(database)
        for one in running_relays:
            one.cancel()

    arrived = await emptied(channel, _FULL)
    assert 0 < waiting <= len(ids)
    assert len(_firsts(ids_of(arrived))) == waiting
