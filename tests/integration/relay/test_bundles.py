"""Subscribers that take all events in bundles: what they get, and what their full queues do."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson
import pytest
from aiormq.abc import DeliveredMessage
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pamqp.common import FieldTable

from contracts.messages import EVENT_BUNDLE_MAX, EVENT_BUNDLE_TYPE, JSON_LINES
from contracts.topology import EVENT_BUNDLES, EVENTS_LOG, EventQueues
from processor.traces import EventTraces
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Outgoing, Publisher
from runtime.amqp.stream import open_stream
from runtime.amqp.topology import declare_topology
from runtime.event_log.event import LoggedEvent, next_events
from runtime.postgres.pool import Connection, Pool
from runtime.service.fault_points import Fault, FaultPoint, OrderedFaultPoints
from runtime.tracing.exporting import ExportingTracer
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import bind_queue, depth, emptied
from tests.integration.relay.relaying import (
    ids_of,
    letters,
    owed_rows,
    post,
    relay_of,
    waiting_events,
)
from tests.support import eventually

_QUEUE: Final = "bundles"
_SINGLES: Final = "singles"
_ROOM: Final = 2


async def _bind(
    channel: Channel, *, kind: str = "quorum", refuses_beyond: int | None = None
) -> None:
    """Declare a subscriber's queue and bind it to the bundles; beyond a length it nacks."""
    arguments: FieldTable = {"x-queue-type": kind}
    if refuses_beyond is not None:
        arguments |= {"x-max-length": refuses_beyond, "x-overflow": "reject-publish"}
    await channel.queue_declare(_QUEUE, durable=True, arguments=arguments)
    await channel.queue_bind(_QUEUE, EVENT_BUNDLES)


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    """The type of the subscriber's queue."""
    return str(request.param)


async def _make_room(channel: Channel, *, kind: str = "quorum") -> None:
    """Give the subscriber the same queue without its bound."""
    await channel.queue_delete(_QUEUE)
    await _bind(channel, kind=kind)


def _lines(bundles: Sequence[DeliveredMessage]) -> list[bytes]:
    return [line for bundle in bundles for line in bundle.body.split(b"\n")]


def _ids(bundles: Sequence[DeliveredMessage]) -> list[UUID]:
    """Return the transactions of bundled events, each where it came first."""
    return list(dict.fromkeys(UUID(orjson.loads(line)["id"]) for line in _lines(bundles)))


async def _emptied(channel: Channel, *, least: int) -> list[DeliveredMessage]:
    """Take all bundles, once so many of them wait: a quorum queue counts a moment later."""

    async def are_there() -> bool:
        return await depth(channel, _QUEUE) >= least

    await eventually(are_there, what=f"{least} bundles")
    return await emptied(channel, _QUEUE)


async def _nothing_is_owed(database: Connection) -> None:
    async def look() -> bool:
        return await owed_rows(database) == 0

    await eventually(look, what="nothing is owed any more", within_s=20)


async def _overfilled(pool: Pool, database: Connection) -> list[UUID]:
    """Post more than _ROOM while a relay runs: a quorum queue refuses from its next round on."""
    ids = await post(pool, database, batches=4, batch=100)
    await _nothing_is_owed(database)
    # Of this round the first bundle is refused.
    ids += await post(pool, database, batches=2, batch=100)
    await _nothing_is_owed(database)
    return ids


async def _nobody_waits(database: Connection) -> None:
    async def look() -> bool:
        return await waiting_events(database) == 0

    await eventually(look, what="no refused event waits any more", within_s=40)


async def _logged(broker_url: str, count: int) -> list[LoggedEvent]:
    events: list[LoggedEvent] = []
    async with open_stream(
        broker_url, EVENTS_LOG, name="test", start="first", prefetch=50
    ) as stream:
        while len({one.transaction_id for one in events}) < count:
            events += await next_events(stream, within_s=10)
    return events


@pytest.mark.parametrize("is_log_kept", [False, True])
async def test_a_queue_of_ones_own_has_all_events_whether_or_not_a_log_is_kept(
    pool: Pool,
    database: Connection,
    publisher: Publisher,
    channel: Channel,
    broker_url: str,
    *,
    kind: str,
    is_log_kept: bool,
) -> None:
    await declare_topology(broker_url, partitions=1, events=EventQueues(is_log_kept=is_log_kept))
    await _bind(channel, kind=kind)
    ids = await post(pool, database, batches=3, batch=50)

    # Nobody is bound to `ackledger.events`.
    relayed = await relay_of(pool, publisher).run_once()

    bundles = await _emptied(channel, least=3)
    assert relayed.events == len(ids)
    assert _ids(bundles) == ids
    assert [len(one.body.split(b"\n")) for one in bundles] == [64, 64, 22]
    assert max(len(one.body.split(b"\n")) for one in bundles) <= EVENT_BUNDLE_MAX
    properties = bundles[0].header.properties
    assert (properties.message_type, properties.content_type) == (EVENT_BUNDLE_TYPE, JSON_LINES)
    assert await owed_rows(database) == 0


async def test_bundles_and_single_events_are_the_same_in_the_same_order(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind(channel)
    await bind_queue(channel, _SINGLES)
    ids = await post(pool, database, batches=5, batch=70)

    await relay_of(pool, publisher).run_once()

    singles = await emptied(channel, _SINGLES)
    assert ids_of(singles) == ids
    assert _lines(await _emptied(channel, least=6)) == [one.body for one in singles]


async def test_a_full_queue_of_bundles_keeps_nobody_waiting_and_gets_its_own_later(
    pool: Pool,
    database: Connection,
    publisher: Publisher,
    channel: Channel,
    broker_url: str,
    *,
    kind: str,
) -> None:
    await declare_topology(broker_url, partitions=1, events=EventQueues(is_log_kept=True))
    await _bind(channel, kind=kind, refuses_beyond=_ROOM)
    await bind_queue(channel, _SINGLES)
    async with running(relay_of(pool, publisher)):
        ids = await _overfilled(pool, database)
        singles = ids_of(await emptied(channel, _SINGLES))
        waiting = await waiting_events(database)
        keys = await database.fetch("SELECT DISTINCT routing_key FROM refused_events")
        early = await emptied(channel, _QUEUE)

        await _make_room(channel, kind=kind)
        await _nobody_waits(database)
    late = _ids(await _emptied(channel, least=1))
    logged = await _logged(broker_url, len(ids))

    assert waiting > 0
    assert [one["routing_key"] for one in keys] == [EVENT_BUNDLES]
    # Each of the others has each event once, and at once.
    assert singles == ids
    assert await depth(channel, _SINGLES) == 0
    assert list(dict.fromkeys(UUID(one.transaction_id) for one in logged)) == ids
    assert len({one.id for one in logged}) == len(ids)
    assert {*_ids(early), *late} == set(ids)
    missed = [one for one in late if one not in _ids(early)]
    assert missed == sorted(missed, key=ids.index)
    assert await letters(database) == []


async def test_an_event_that_is_refused_in_both_ways_waits_for_each_queue(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind(channel, refuses_beyond=_ROOM)
    await bind_queue(channel, _SINGLES, refuses_beyond=_ROOM)
    async with running(relay_of(pool, publisher)):
        # Nobody else takes any bundle.
        ids = await _overfilled(pool, database)
        keys = await database.fetch("SELECT DISTINCT routing_key FROM refused_events ORDER BY 1")
        early = _ids(await emptied(channel, _QUEUE))
        singles = ids_of(await emptied(channel, _SINGLES))
        await _make_room(channel)
        await channel.queue_delete(_SINGLES)
        await bind_queue(channel, _SINGLES)
        await _nobody_waits(database)

    assert [one["routing_key"] for one in keys] == [
        EVENT_BUNDLES, "transaction.completed.transfer.USD",
    ]  # fmt: skip
    assert {*early, *_ids(await _emptied(channel, least=1))} == set(ids)
    assert {*singles, *ids_of(await emptied(channel, _SINGLES))} == set(ids)


async def test_bundles_that_are_refused_for_too_long_are_set_aside_event_by_event(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind(channel, refuses_beyond=_ROOM)
    async with running(relay_of(pool, publisher, refused_kept_s=0.5)):
        ids = await _overfilled(pool, database)
        await _nobody_waits(database)

    stored = await letters(database)
    got = _ids(await emptied(channel, _QUEUE))
    aside = [UUID(orjson.loads(one["body"])["transaction_id"]) for one in stored]
    assert {one["reason"] for one in stored} == {"event_rejected"}
    assert len(set(aside)) == len(aside)
    assert {*got, *aside} == set(ids)


async def test_a_refused_bundle_is_an_error_in_the_trace_of_each_of_its_events(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    exporter = InMemorySpanExporter()
    tracer = ExportingTracer(SimpleSpanProcessor(exporter), service="test")
    await _bind(channel, kind="classic", refuses_beyond=0)
    ids = await post(pool, database, batches=1, batch=20)
    for number, one in enumerate(ids, start=1):
        parent = f"00-{number:032x}-{7:016x}-01"
        await database.execute(
            "UPDATE transactions SET traceparent = $2 WHERE id = $1", one, parent
        )
    async with running(relay_of(pool, publisher, traces=EventTraces(tracer))):
        await _nothing_is_owed(database)
        await _make_room(channel, kind="classic")
        await _nobody_waits(database)

    codes = defaultdict(list)
    for span in exporter.get_finished_spans():
        assert span.parent is not None
        assert span.name == f"publish {EVENT_BUNDLES}"
        codes[span.parent.trace_id].append(span.status.status_code)
    assert codes.keys() == set(range(1, len(ids) + 1))
    assert {(found[0], found[-1]) for found in codes.values()} == {
        (StatusCode.ERROR, StatusCode.UNSET)
    }


async def test_a_line_whose_queue_is_gone_ends(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await _bind(channel, refuses_beyond=_ROOM)
    async with running(relay_of(pool, publisher)):
        await _overfilled(pool, database)
        waiting = await waiting_events(database)
        await channel.queue_delete(_QUEUE)
        await _nobody_waits(database)

    assert waiting > 0
    assert await letters(database) == []


async def test_a_queue_that_is_unbound_in_the_middle_of_a_round_costs_nobody_else_an_event(
    pool: Pool, database: Connection, broker_url: str, channel: Channel
) -> None:
    await _bind(channel)
    await bind_queue(channel, _SINGLES)
    ids = await post(pool, database, batches=4, batch=100)
    publisher = _Unbinding(broker_url, channel)
    async with running(publisher):
        await publisher.wait_until_up()
        await relay_of(pool, publisher).run_once()

    assert _ids(await _emptied(channel, least=1)) == ids[:64]
    assert ids_of(await emptied(channel, _SINGLES)) == ids
    assert await owed_rows(database) == 0


class _Unbinding(Publisher):
    """Takes the subscriber's binding away once the first bundle has landed."""

    def __init__(self, url: str, channel: Channel) -> None:
        super().__init__(url, name="test-publish")
        self._bound_by: Channel | None = channel

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout_s: float) -> None:
        await super().publish_all(messages, timeout_s=timeout_s)
        channel, self._bound_by = self._bound_by, None
        if channel is not None:
            await channel.queue_unbind(_QUEUE, EVENT_BUNDLES)


async def test_bundles_that_come_again_after_a_crash_have_the_same_events(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel, tmp_path: Path
) -> None:
    await _bind(channel)
    ids = await post(pool, database, batches=2, batch=40)
    (tmp_path / FaultPoint.RELAY_PUBLISHED.value).write_text(Fault.CANCEL.value)
    relay = relay_of(pool, publisher, OrderedFaultPoints(tmp_path))

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(relay.run_once())
    later = await post(pool, database, batches=1, batch=10)
    await relay.run_once()

    lines = _lines(await _emptied(channel, least=4))
    told = {(event["id"], event["event_id"]) for event in map(orjson.loads, lines)}
    assert len(lines) == 2 * len(ids) + len(later)
    assert sorted(UUID(one) for one, _ in told) == sorted([*ids, *later])
