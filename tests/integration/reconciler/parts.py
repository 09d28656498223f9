"""The reconciler's parts, put together as its process does it, on a virtual host of the tests."""

from contracts.topology import partition_queue
from reconciler.clock import Clock
from reconciler.counters import CounterSweep
from reconciler.integrity import IntegrityCheck
from reconciler.observation import BookObserver
from reconciler.retry_queue import Expiry, QueueDepth, RetryQueue, Sweep
from reconciler.schedule import Reconciler
from reconciler.sealing import SealCheck, Sealer
from reconciler.verifying import Verifier
from runtime.amqp.publisher import Publisher
from runtime.postgres.leadership import Leadership
from runtime.postgres.pool import Pool

PARTITIONS = 2
QUEUES = [partition_queue(number) for number in range(PARTITIONS)]
NEVER = 0.0


def make_retry_queue(
    pool: Pool,
    publisher: Publisher,
    depth: QueueDepth,
    *,
    in_flight_max: int = 1000,
    expire_after_s: float = NEVER,
) -> RetryQueue:
    """Return a retry queue of all partitions; `expire_after_s` is the age of what may expire."""
    return RetryQueue(
        pool=pool,
        publisher=publisher,
        depth=depth,
        partitions=PARTITIONS,
        in_flight_max=in_flight_max,
        expiry=Expiry(pool, after_s=expire_after_s),
    )


def make_verifier(pool: Pool, url: str) -> Verifier:
    """Return what verifies the database of a pool, which `url` leads to."""
    return Verifier(pool, url, keys=None, pending_max_s=300, unsealed_max_s=3600)


def make_reconciler(
    pool: Pool,
    retry_queue: RetryQueue,
    leadership: Leadership,
    *,
    stale_after_s: float,
    interval_s: float = 0.1,
    integrity_interval_s: float = 0.1,
    verifier: Verifier | None = None,
) -> Reconciler:
    """Return a reconciler that makes a pass every `interval_s` while it leads."""
    return Reconciler(
        sweep=Sweep(pool),
        retry_queue=retry_queue,
        clock=Clock(pool),
        counters=CounterSweep(pool),
        observer=BookObserver(pool),
        integrity=IntegrityCheck(pool, interval_s=integrity_interval_s),
        sealer=Sealer(pool, keys=None, interval_s=integrity_interval_s),
        seal_check=SealCheck(pool, keys=None, interval_s=integrity_interval_s),
        verifier=verifier or make_verifier(pool, ""),
        leadership=leadership,
        stale_after_s=stale_after_s,
        interval_s=interval_s,
    )
