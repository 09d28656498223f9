"""The processor's composition root: builds the parts, runs them."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, assert_never
from uuid import uuid4

from contracts.topology import EVENTS_LOG, partition_queue
from processor.deciding import WalletCache
from processor.events.buffer import CLAIMANT_SETTING, EventBuffer
from processor.events.relay import LEFT_BEHIND_S, OutboxRelay
from processor.events.shared_relay import SharedRelay
from processor.intake import PartitionConsumer, partition_consumer
from processor.pipeline import Pipeline
from processor.poster import Poster
from processor.replies import Forwarder, Replies
from processor.retry import Circuit
from processor.traces import EventTraces, PostingTraces
from runtime.amqp.consumer import Line
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import AssetWatch
from runtime.postgres.listening import POSTED, Listener
from runtime.postgres.migrate import check_database
from runtime.postgres.partition_layout import PartitionLayoutCheck
from runtime.postgres.pool import KEYED_SESSION, Pool, create_pool
from runtime.screening.watch import CurrentRules, RulesWatch
from runtime.service.fault_points import FaultPoints, fault_points_in
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import ConfigurationError, ProcessorDuty, ProcessorSettings
from runtime.service.status_server import (
    Check,
    Readiness,
    StatusServer,
    check_broker,
    check_circuit,
)
from runtime.tracing.spans import Tracer, server_of, tracer_of

BATCHES_IN_HAND: Final = 4
"""Deliveries to hold, in batches of single messages: one is written, one read, others come."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What posting and the relay have in common."""

    settings: ProcessorSettings
    service: Service
    pool: Pool
    assets: AssetWatch
    tracer: Tracer
    fault_points: FaultPoints | None
    posted: asyncio.Event
    """Wakes the relay."""
    event_buffer: EventBuffer | None
    """None where the relay is in another process than posting."""


async def serve(settings: ProcessorSettings) -> None:
    """Run the processor until a signal."""
    service = Service("processor", shutdown_timeout_s=settings.shutdown_timeout_s)
    is_all = settings.processor_duty is ProcessorDuty.ALL
    event_buffer = EventBuffer(claimant=uuid4()) if is_all else None
    pool = _pool(settings, event_buffer)
    await pool
    parts = _Parts(
        settings=settings,
        service=service,
        pool=pool,
        assets=AssetWatch(pool),
        tracer=tracer_of(settings, service="processor"),
        fault_points=fault_points_in(settings.fault_orders),
        posted=asyncio.Event(),
        event_buffer=event_buffer,
    )
    service.add_loop("assets", parts.assets)
    match settings.processor_duty:
        case ProcessorDuty.ALL:
            checks = _add_posting(parts)
            service.add_loop("relay", _relay(parts, _events_publisher(parts)))
        case ProcessorDuty.POSTING:
            checks = _add_posting(parts)
        case ProcessorDuty.EVENTS:
            checks = _add_events(parts)
        case _:
            assert_never(settings.processor_duty)
    readiness = Readiness({"database": parts.assets.checked(check_database(pool)), **checks})
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_close(parts.tracer.close)
    service.add_close(pool.close)
    await service.run()


def _pool(settings: ProcessorSettings, event_buffer: EventBuffer | None) -> Pool:
    """Where this process has its own relay, what its sessions owe is claimed for it from birth."""
    session = {**KEYED_SESSION, "lock_timeout": f"{int(settings.lock_timeout_s * 1000)}"}
    if event_buffer is not None:
        session[CLAIMANT_SETTING] = str(event_buffer.claimant)
    return create_pool(
        settings.database_url,
        name="processor",
        size=settings.processor_database_connections + settings.partitions,
        statement_timeout_s=settings.database_statement_timeout_s,
        session=session,
    )


def _add_posting(parts: _Parts) -> dict[str, Check]:
    """Add what posts, a pipeline for each partition; return what it has to reach."""
    settings, service = parts.settings, parts.service
    publisher = Publisher(settings.amqp_url, name="processor-publish")
    circuit = Circuit(parts.pool)
    rules = CurrentRules()
    service.add_loop("rules", RulesWatch(parts.pool, rules))
    consumers = _consumers(settings)
    for number, consumer in enumerate(consumers):
        replies = Replies(publisher=publisher, pool=parts.pool, queue=partition_queue(number))
        forwarder = Forwarder(publisher=publisher, replies=replies)
        partition = Pipeline(
            consumer=consumer,
            poster=_poster(parts, rules, partition=number),
            circuit=circuit,
            replies=replies,
            forwarder=forwarder,
            posted=parts.posted,
            batch_size=settings.batch_size,
            fault_points=parts.fault_points,
        )
        service.add_loop(f"consumer-{number}", parts.assets.before(consumer))
        service.add_loop(f"forwarder-{number}", forwarder)
        service.add_loop(f"partition-{number}", partition)
        service.add_drain(partition.drain)
    service.add_loop("partition-layout", PartitionLayoutCheck(parts.pool, settings.partitions))
    service.add_loop("circuit", circuit)
    service.add_loop("publisher", publisher)
    return {
        "posting": check_circuit(lambda: circuit.is_open),
        "broker": check_broker(
            lambda: publisher.is_up and all(consumer.is_up for consumer in consumers),
        ),
    }


def _poster(parts: _Parts, rules: CurrentRules, *, partition: int) -> Poster:
    settings = parts.settings
    return Poster(
        parts.pool,
        partition=partition,
        partitions=settings.partitions,
        event_buffer=parts.event_buffer,
        # Partitions post side by side, and to the same wallets.
        wallet_cache=WalletCache() if settings.partitions == 1 else None,
        rules=rules,
        fault_points=parts.fault_points,
        traces=PostingTraces(
            parts.tracer,
            queue=partition_queue(partition),
            database=server_of(settings.database_url),
            broker=server_of(settings.amqp_url),
        ),
    )


def _add_events(parts: _Parts) -> dict[str, Check]:
    """Add the relay of what others post; return what it has to reach.

    Of several processes with this duty one relays at a time, so that events keep their order.
    """
    url = parts.settings.database_url
    publisher = _events_publisher(parts)
    relay = _relay(parts, publisher, left_behind_s=0.0)
    listener = Listener(
        url, name="relay-listen", channel=POSTED, notified=lambda _: parts.posted.set()
    )
    parts.service.add_loop("listener", listener)
    parts.service.add_loop("relay", SharedRelay(url, relay=relay, publisher=publisher))
    return {"broker": check_broker(lambda: publisher.is_up)}


def _events_publisher(parts: _Parts) -> Publisher:
    """A connection of its own waits for the log of events, to which nothing else goes."""
    url = parts.settings.amqp_url
    publisher = Publisher(url, name="processor-events", awaited_queue=EVENTS_LOG)
    parts.service.add_loop("events-publisher", publisher)
    return publisher


def _relay(
    parts: _Parts, publisher: Publisher, *, left_behind_s: float = LEFT_BEHIND_S
) -> OutboxRelay:
    return OutboxRelay(
        pool=parts.pool,
        publisher=publisher,
        posted=parts.posted,
        event_buffer=parts.event_buffer,
        fault_points=parts.fault_points,
        left_behind_s=left_behind_s,
        traces=EventTraces(parts.tracer, broker=server_of(parts.settings.amqp_url)),
    )


def _consumers(settings: ProcessorSettings) -> list[PartitionConsumer]:
    """One for each partition; raises ConfigurationError for a preferred one that there is not."""
    unknown = [one for one in settings.processor_partitions if one >= settings.partitions]
    if unknown:
        raise ConfigurationError(
            f"ACKLEDGER_PROCESSOR_PARTITIONS: there is no partition {min(unknown)}; "
            f"ACKLEDGER_PARTITIONS={settings.partitions} are numbered from 0"
        )
    return [
        partition_consumer(
            settings.amqp_url,
            partition_queue(number),
            prefetch=BATCHES_IN_HAND * settings.batch_size,
            line=_line(number, preferred=settings.processor_partitions),
        )
        for number in range(settings.partitions)
    ]


def _line(number: int, *, preferred: Collection[int]) -> Line:
    """Where this process stands for a partition: behind others where it prefers other ones."""
    if not preferred:
        return Line.ANYWHERE
    return Line.FIRST if number in preferred else Line.SECOND


def run(environment: Mapping[str, str]) -> int:
    """Run as a process; return its exit code."""
    return run_process(ProcessorSettings, serve, name="processor", environment=environment)
