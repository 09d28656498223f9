"""The reconciler's composition root: builds the parts, runs them.

For the process, and for a single pass by hand.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from dead_letters.collector import DeadLetterCollector
from reconciler.clock import Clock
from reconciler.counters import CounterSweep
from reconciler.integrity import IntegrityCheck
from reconciler.observation import BookObserver
from reconciler.retry_queue import Expiry, QueueDepth, RetryQueue, Sweep
from reconciler.schedule import (
    LOOKUP_SESSION,
    ReconcileCounts,
    Reconciler,
    reconciler_leadership,
)
from reconciler.sealing import SealCheck, Sealer
from reconciler.verifying import Verifier
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import AssetWatch
from runtime.postgres.migrate import check_database
from runtime.postgres.partition_layout import PartitionLayoutCheck
from runtime.postgres.pool import Pool, create_pool
from runtime.service.fault_points import FaultPoints, fault_points_in
from runtime.service.key_directory import SigningKeyError
from runtime.service.lifecycle import Service, run_process
from runtime.service.settings import ConfigurationError, ReconcilerSettings
from runtime.service.status_server import Readiness, StatusServer, check_broker
from runtime.tracing.spans import AnnouncementTraces, Tracer, server_of, tracer_of
from verification.seal_keys import SealKeys

CONNECT_TIMEOUT_S: Final = 10.0
"""How long a single pass waits for the broker."""
_DATABASE_CONNECTIONS: Final = 6


@dataclass(frozen=True, slots=True)
class _Parts:
    pool: Pool
    publisher: Publisher
    fault_points: FaultPoints | None
    depth: QueueDepth
    reconciler: Reconciler
    tracer: Tracer


async def serve(settings: ReconcilerSettings) -> None:
    """Run the reconciler and the keeper of dead letters until a signal."""
    service = Service("reconciler", shutdown_timeout_s=settings.shutdown_timeout_s)
    parts = await _build(settings, stale_after_s=settings.stale_after_s)
    collector = DeadLetterCollector(
        settings.amqp_url, pool=parts.pool, fault_points=parts.fault_points
    )
    service.add_loop("partition-layout", PartitionLayoutCheck(parts.pool, settings.partitions))
    service.add_loop("assets", AssetWatch(parts.pool))
    service.add_loop("publisher", parts.publisher)
    service.add_loop("queue-depth", parts.depth)
    service.add_loop("reconciler", parts.reconciler)
    service.add_loop("dead-letters", collector)
    service.add_drain(parts.reconciler.drain)
    readiness = Readiness(
        {
            "database": check_database(parts.pool),
            "broker": check_broker(
                lambda: parts.publisher.is_up and parts.depth.is_up and collector.is_up,
            ),
        }
    )
    service.add_loop(
        "status", StatusServer(readiness, host=settings.status_host, port=settings.status_port)
    )
    service.add_close(parts.tracer.close)
    service.add_close(parts.pool.close)
    await service.run()


async def reconcile_once(
    settings: ReconcilerSettings, *, older_than_s: float | None = None
) -> ReconcileCounts:
    """Make one pass beside whatever reconcilers run, and return what it did.

    `older_than_s` stands in for the setting; 0 takes all that is PENDING now. Raises
    TimeoutError (or ConnectionError) when the broker, and asyncpg's errors when the database
    cannot be reached.
    """
    stale_after_s = settings.stale_after_s if older_than_s is None else older_than_s
    parts = await _build(settings, stale_after_s=stale_after_s)
    try:
        async with _connected(parts):
            return await parts.reconciler.run_once()
    finally:
        await parts.tracer.close()
        await parts.pool.close()


@asynccontextmanager
async def _connected(parts: _Parts) -> AsyncIterator[None]:
    links = [
        asyncio.ensure_future(parts.publisher.run()),
        asyncio.ensure_future(parts.depth.run()),
    ]
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await parts.publisher.wait_until_up()
            await parts.depth.wait_until_up()
        yield
    finally:
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)


async def _build(settings: ReconcilerSettings, *, stale_after_s: float) -> _Parts:
    keys = _seal_keys(settings)
    pool = create_pool(
        settings.database_url,
        name="reconciler",
        size=_DATABASE_CONNECTIONS,
        statement_timeout_s=settings.database_statement_timeout_s,
        session=LOOKUP_SESSION,
    )
    await pool
    publisher = Publisher(settings.amqp_url, name="reconciler-publish")
    depth = QueueDepth(settings.amqp_url, partitions=settings.partitions)
    fault_points = fault_points_in(settings.fault_orders)
    tracer = tracer_of(settings, service="reconciler")
    retry_queue = RetryQueue(
        pool=pool,
        publisher=publisher,
        depth=depth,
        partitions=settings.partitions,
        in_flight_max=settings.reconcile_in_flight_max,
        expiry=Expiry(pool, after_s=settings.expire_after_s),
        fault_points=fault_points,
        traces=AnnouncementTraces(tracer, broker=server_of(settings.amqp_url)),
    )
    reconciler = Reconciler(
        sweep=Sweep(pool),
        retry_queue=retry_queue,
        clock=Clock(pool),
        counters=CounterSweep(pool),
        observer=BookObserver(pool),
        integrity=IntegrityCheck(pool, interval_s=settings.integrity_interval_s),
        sealer=Sealer(
            pool, keys=keys, interval_s=settings.seal_interval_s, fault_points=fault_points
        ),
        seal_check=SealCheck(pool, keys=keys, interval_s=settings.integrity_interval_s),
        verifier=_verifier(settings, pool, keys),
        leadership=reconciler_leadership(settings.database_url),
        stale_after_s=stale_after_s,
        interval_s=settings.reconcile_interval_s,
    )
    return _Parts(
        pool=pool,
        publisher=publisher,
        fault_points=fault_points,
        depth=depth,
        reconciler=reconciler,
        tracer=tracer,
    )


def _verifier(settings: ReconcilerSettings, pool: Pool, keys: SealKeys | None) -> Verifier:
    return Verifier(
        pool,
        settings.database_url,
        keys=keys,
        pending_max_s=settings.verify_pending_max_s,
        unsealed_max_s=settings.verify_unsealed_max_s,
    )


def _seal_keys(settings: ReconcilerSettings) -> SealKeys | None:
    """Return the keys; raises ConfigurationError where the setting names none that can be used."""
    if settings.seal_keys is None:
        return None
    keys = SealKeys(settings.seal_keys)
    try:
        keys.signer()
        keys.trusted()
    except SigningKeyError as error:
        raise ConfigurationError(f"ACKLEDGER_SEAL_KEYS: {error}") from None
    return keys


def run(environment: Mapping[str, str]) -> int:
    """Run as a process; return its exit code."""
    return run_process(ReconcilerSettings, serve, name="reconciler", environment=environment)
