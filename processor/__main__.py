"""The processor's composition root: reads the environment, builds the parts, runs them."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from contracts.topology import EVENTS_LOG, partition_queue
from processor.events.buffer import CLAIMANT_SETTING, EventBuffer
from processor.events.relay import OutboxRelay
from processor.intake import PartitionConsumer, partition_consumer
from processor.pipeline import Pipeline
from processor.poster import Poster, WalletCache
from processor.replies import Forwarder, Replies
from processor.retry import Circuit
from processor.traces import EventTraces, PostingTraces
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import AssetWatch
from runtime.postgres.migrate import check_database
from runtime.postgres.partition_layout import PartitionLayoutCheck
from runtime.postgres.pool import KEYED_SESSION, Pool, create_pool
from runtime.screening.watch import CurrentRules, RulesWatch
from runtime.service.fault_points import FaultPoints, fault_points_in
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import ProcessorSettings
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


async def serve(settings: ProcessorSettings) -> None:
    """Run the processor until a signal."""
    service = Service("processor", shutdown_timeout_s=settings.shutdown_timeout_s)
    claimant = uuid4()
    pool = _pool(settings, claimant)
    await pool
    publisher = Publisher(settings.amqp_url, name="processor-publish")
    posted = asyncio.Event()
    fault_points = fault_points_in(settings.fault_orders)
    event_buffer = EventBuffer(claimant=claimant)
    circuit = Circuit(pool)
    assets = AssetWatch(pool)
    tracer = tracer_of(settings, service="processor")
    rules = CurrentRules()
    service.add_loop("assets", assets)
    service.add_loop("rules", RulesWatch(pool, rules))
    consumers = _consumers(settings)
    for number, consumer in enumerate(consumers):
        replies = Replies(publisher=publisher, pool=pool, queue=partition_queue(number))
        forwarder = Forwarder(publisher=publisher, replies=replies)
        partition = Pipeline(
            consumer=consumer,
            poster=_poster(
                settings, pool, event_buffer, rules, fault_points, tracer=tracer, partition=number
            ),
            circuit=circuit,
            replies=replies,
            forwarder=forwarder,
            posted=posted,
            batch_size=settings.batch_size,
            fault_points=fault_points,
        )
        service.add_loop(f"consumer-{number}", assets.before(consumer))
        service.add_loop(f"forwarder-{number}", forwarder)
        service.add_loop(f"partition-{number}", partition)
        service.add_drain(partition.drain)
    service.add_loop("partition-layout", PartitionLayoutCheck(pool, settings.partitions))
    service.add_loop("circuit", circuit)
    service.add_loop("publisher", publisher)
    relayed = EventTraces(tracer, broker=server_of(settings.amqp_url))
    events = _events_publisher(service, settings)
    relay = _relay(pool, events, posted, event_buffer, fault_points, traces=relayed)
    service.add_loop("relay", relay)
    readiness = _readiness(assets.checked(check_database(pool)), circuit, publisher, consumers)
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_close(tracer.close)
    service.add_close(pool.close)
    await service.run()


def _pool(settings: ProcessorSettings, claimant: UUID) -> Pool:
    """What its sessions owe is claimed for the relay of this process from the beginning."""
    return create_pool(
        settings.database_url,
        name="processor",
        size=settings.processor_database_connections + settings.partitions,
        statement_timeout_s=settings.database_statement_timeout_s,
        session={
            **KEYED_SESSION,
            "lock_timeout": f"{int(settings.lock_timeout_s * 1000)}",
            CLAIMANT_SETTING: str(claimant),
        },
    )


def _poster(
    settings: ProcessorSettings,
    pool: Pool,
    event_buffer: EventBuffer,
    rules: CurrentRules,
    fault_points: FaultPoints | None,
    *,
    tracer: Tracer,
    partition: int,
) -> Poster:
    return Poster(
        pool,
        partition=partition,
        partitions=settings.partitions,
        event_buffer=event_buffer,
        # Partitions post side by side, and to the same wallets.
        wallet_cache=WalletCache() if settings.partitions == 1 else None,
        rules=rules,
        fault_points=fault_points,
        traces=PostingTraces(
            tracer,
            queue=partition_queue(partition),
            database=server_of(settings.database_url),
            broker=server_of(settings.amqp_url),
        ),
    )


def _events_publisher(service: Service, settings: ProcessorSettings) -> Publisher:
    """A connection of its own waits for the log of events, to which nothing else goes."""
    publisher = Publisher(settings.amqp_url, name="processor-events", awaited_queue=EVENTS_LOG)
    service.add_loop("events-publisher", publisher)
    return publisher


def _relay(
    pool: Pool,
    publisher: Publisher,
    posted: asyncio.Event,
    event_buffer: EventBuffer,
    fault_points: FaultPoints | None,
    *,
    traces: EventTraces,
) -> OutboxRelay:
    return OutboxRelay(
        pool=pool,
        publisher=publisher,
        posted=posted,
        event_buffer=event_buffer,
        fault_points=fault_points,
        traces=traces,
    )


def _consumers(settings: ProcessorSettings) -> list[PartitionConsumer]:
    """One for each partition."""
    return [
        partition_consumer(
            settings.amqp_url,
            partition_queue(number),
            prefetch=BATCHES_IN_HAND * settings.batch_size,
        )
        for number in range(settings.partitions)
    ]


def _readiness(
    database: Check, circuit: Circuit, publisher: Publisher, consumers: Sequence[PartitionConsumer]
) -> Readiness:
    return Readiness(
        {
            "database": database,
            "posting": check_circuit(lambda: circuit.is_open),
            "broker": check_broker(
                lambda: publisher.is_up and all(consumer.is_up for consumer in consumers),
            ),
        }
    )


def main() -> int:
    """Run as a process; return its exit code."""
    return run_process(ProcessorSettings, serve, name="processor", environment=os.environ)


if __name__ == "__main__":
    sys.exit(main())
