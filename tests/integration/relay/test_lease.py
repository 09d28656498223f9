"""Relays claim what they publish for some seconds; nothing in the database waits for the broker."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from uuid import uuid4

from processor.events.messages import BuiltFlight, Settlement, flights
from processor.events.outbox import LEASE_S, Outbox
from processor.events.refused import FLIGHT_MAX
from processor.events.relay import OWED_MAX
from processor.poster import Poster
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import bind_queue, emptied, memory_alarm
from tests.integration.relay.relaying import ids_of, owed_rows, post, relay_of
from tests.support import eventually
from tools.stack import Stack
from tools.stack.rabbitmq import PrivateRabbitMQ

_QUEUE = "events"
_CLAIMED = "SELECT count(*) FROM outbox WHERE claimed_until > clock_timestamp()"
_OPEN = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""


async def _claimed(database: Connection) -> int:
    return int(await database.fetchval(_CLAIMED))


async def test_no_database_transaction_is_open_while_confirms_are_waited_for(
    own_stack: Stack, pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    assert isinstance(own_stack.rabbitmq, PrivateRabbitMQ)
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=2)
    alarm = AsyncExitStack()
    await alarm.enter_async_context(memory_alarm(own_stack.rabbitmq))
    async with alarm, running(relay_of(pool, publisher)):

        async def is_claimed() -> bool:
            return await _claimed(database) == 2

        await eventually(is_claimed, what="two claimed rows")
        until = await database.fetchval("SELECT min(claimed_until) FROM outbox")

        async def is_renewed() -> bool:
            return bool(
                await database.fetchval("SELECT min(claimed_until) > $1 FROM outbox", until)
            )

        await eventually(is_renewed, what="claims that are held on to", within_s=LEASE_S)
        opened = await database.fetchval(_OPEN)
        await alarm.aclose()

        async def told() -> bool:
            return await owed_rows(database) == 0

        await eventually(told, what="nothing is owed any more", within_s=40)

    assert opened == 0
    assert set(ids_of(await emptied(channel, _QUEUE))) == set(ids)


async def test_what_a_relay_that_died_had_claimed_is_taken_over_when_the_claim_runs_out(
    pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    await bind_queue(channel, _QUEUE)
    ids = await post(pool, database, batches=2, batch=5)
    await database.execute(
        "UPDATE outbox SET claimed_by = $1, claimed_until = clock_timestamp() + interval '1 s'",
        uuid4(),
    )
    relay = relay_of(pool, publisher)

    before = await relay.run_once()

    async def is_taken() -> bool:
        return (await relay.run_once()).owed == 2

    await eventually(is_taken, what="claims that ran out", within_s=LEASE_S)
    assert before.owed == 0
    assert ids_of(await emptied(channel, _QUEUE)) == ids


async def test_a_relay_that_is_stopped_lets_go_of_what_it_had_claimed(
    own_stack: Stack, pool: Pool, database: Connection, publisher: Publisher, channel: Channel
) -> None:
    assert isinstance(own_stack.rabbitmq, PrivateRabbitMQ)
    await bind_queue(channel, _QUEUE)
    await post(pool, database, batches=2)
    async with memory_alarm(own_stack.rabbitmq), running(relay_of(pool, publisher)):

        async def claimed_until() -> datetime | None:
            if await _claimed(database) < 2:
                return None
            until: datetime = await database.fetchval("SELECT min(claimed_until) FROM outbox")
            return until

        first = await eventually(claimed_until, what="two claimed rows")

        async def is_renewed() -> bool:
            # By then the relay knows of its claims, and publishes.
            until = await claimed_until()
            return until is not None and until > first

        await eventually(is_renewed, what="two renewed claims")

    assert (await _claimed(database), await owed_rows(database)) == (0, 2)


async def test_a_row_that_another_relay_has_claimed_since_is_left_to_it(
    pool: Pool, database: Connection
) -> None:
    await post(pool, database, batches=1)
    slow, quick = Outbox(pool), Outbox(pool)
    claimed = await slow.claim(OWED_MAX, least_age_s=0)
    # The claim runs out while the slow one publishes, and both publish.
    await database.execute("UPDATE outbox SET claimed_until = clock_timestamp()")
    assert await quick.claim(OWED_MAX, least_age_s=0) == claimed
    settlement = Settlement(claimed)
    [flight] = flights(claimed, FLIGHT_MAX)
    settlement.land(BuiltFlight(flight.parts, []))

    await slow.release([one.outbox_id for one in claimed])
    await slow.end(settlement)
    still_owed = await owed_rows(database)
    await quick.end(settlement)

    assert (still_owed, await owed_rows(database)) == (1, 0)


async def test_claims_leave_the_row_on_its_page(
    pool: Pool, database: Connection, publisher: Publisher
) -> None:
    """Each is a HOT update: the index gets nothing new."""
    alice, bob = await add_wallets(database, 2, balance=100_000)
    poster, relay = Poster(pool), relay_of(pool, publisher)
    for _ in range(60):
        await poster.post(await record(database, [transfer_command(uuid4().hex, alice, bob, 1)]))
        await relay.run_once()

    async def counted() -> bool:
        updates = await database.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'outbox'"
        )
        return updates is not None and updates[0] == updates[1] == 60

    await asyncio.gather(*(pool.fetchval("SELECT pg_stat_force_next_flush()") for _ in range(4)))
    await eventually(counted, what="60 updates, all of them HOT")
