"""A relay of these tests, what it has to tell, and what arrived of it."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID, uuid4

import asyncpg
import orjson
from aiormq.abc import DeliveredMessage

from processor.events.buffer import EventBuffer
from processor.events.refused import FLIGHT_MAX, REFUSED_KEPT_S
from processor.events.relay import LEFT_BEHIND_S, OutboxRelay
from processor.poster import Poster
from processor.traces import EventTraces
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from runtime.service.fault_points import FaultPoints
from tests.integration.processor.books import add_wallets, random_transfers, record
from verification.checks import Check
from verification.verify import verify


def relay_of(
    pool: Pool,
    publisher: Publisher,
    faults: FaultPoints | None = None,
    *,
    refused_kept_s: float = REFUSED_KEPT_S,
    left_behind_s: float = LEFT_BEHIND_S,
    traces: EventTraces | None = None,
    event_buffer: EventBuffer | None = None,
) -> OutboxRelay:
    """Return a relay that nothing is posted beside."""
    return OutboxRelay(
        pool=pool,
        publisher=publisher,
        posted=asyncio.Event(),
        fault_points=faults,
        refused_kept_s=refused_kept_s,
        left_behind_s=left_behind_s,
        traces=traces,
        event_buffer=event_buffer,
    )


async def post(
    pool: Pool, database: Connection, *, batches: int, batch: int = FLIGHT_MAX
) -> list[UUID]:
    """Post transfers, each batch with its outbox row; return their ids in the order of posting."""
    wallets = await add_wallets(database, 20, balance=1_000_000)
    poster, posted = Poster(pool), list[UUID]()
    for number in range(batches):
        transfers = random_transfers(wallets, batch, seed=number, prefix=uuid4().hex)
        ids = await record(database, transfers)
        await poster.post(ids)
        posted += ids
    return posted


async def owed_rows(database: Connection) -> int:
    """Return how many rows the outbox holds."""
    return int(await database.fetchval("SELECT count(*) FROM outbox"))


def ids_of(messages: Sequence[DeliveredMessage]) -> list[UUID]:
    """Return the transactions that events tell of, in their order."""
    return [UUID(orjson.loads(message.body)["id"]) for message in messages]


def event_ids(messages: Sequence[DeliveredMessage]) -> dict[UUID, set[str]]:
    """Return the event ids of each transaction."""
    found: dict[UUID, set[str]] = defaultdict(set)
    for message in messages:
        event = orjson.loads(message.body)
        found[UUID(event["id"])].add(event["event_id"])
    return found


def assert_each_has_one_event(messages: Sequence[DeliveredMessage], ids: Sequence[UUID]) -> None:
    """Assert that each transaction has its event, under one id, however often it came."""
    events = event_ids(messages)
    assert events.keys() == set(ids)
    assert {len(names) for names in events.values()} == {1}
    assert len({name for names in events.values() for name in names}) == len(ids)


async def letters(database: Connection) -> list[asyncpg.Record]:
    """Return the dead letters, oldest first."""
    return await database.fetch("SELECT * FROM dead_letters ORDER BY id")


async def waiting_events(database: Connection) -> int:
    """Return how many refused events wait for another try."""
    count = "SELECT coalesce(sum(cardinality(transaction_ids)), 0) FROM refused_events"
    return int(await database.fetchval(count))


async def set_aside_findings(database: Connection) -> list[str]:
    """Return the subjects of what `verify` finds set aside."""
    assert isinstance(database, asyncpg.Connection)
    report = await verify(database, pending_max_s=300)
    return [one.subject for one in report.findings if one.check is Check.EVENT_SET_ASIDE]
