"""The circuit: what happens to deliveries while the database is away, and after it."""

import asyncio
import time

import pytest
from aiormq.abc import DeliveredMessage

from processor.pipeline import LOOK_EVERY_S
from processor.retry import PROBE_TIMEOUT_S
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.amqp.topology import check_queue
from runtime.postgres.pool import Connection, connect
from runtime.service.status_server import Readiness, answer_readiness, check_circuit
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.workshop import (
    QUEUE,
    Transfers,
    all_completed,
    announce,
    assert_posted_once,
    circuit_open,
    completed,
    metric,
    nothing_unsettled,
    post_one,
    processing,
    recorded_transfers,
)
from tests.support import PATIENCE_S, eventually

pytestmark = pytest.mark.long

RECOVERY_S = 5.0


async def _given_back(channel: Channel, count: int) -> None:
    async def look() -> bool:
        return await check_queue(channel, QUEUE) == count

    await eventually(look, what=f"{count} messages that nobody holds")


async def _next_message(channel: Channel) -> DeliveredMessage:
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_consume(QUEUE, arrived.put)
    async with asyncio.timeout(PATIENCE_S):
        return await arrived.get()


async def test_without_the_database_nothing_is_held_and_all_is_posted_when_it_is_back(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 30)
    openings = metric("ackledger_processor_circuit_openings_total")
    async with processing(site.database_line.url, site.broker_url) as workshop:
        readiness = Readiness({"posting": check_circuit(lambda: workshop.circuit.is_open)})
        await post_one(database, site.publisher, transfers.ids[0])
        ready = answer_readiness(await readiness.read())
        site.database_line.unplug()
        for one in transfers.ids[1:]:
            await announce(site.publisher, [one])
        await circuit_open(workshop)
        await _given_back(site.channel, 29)
        not_ready = answer_readiness(await readiness.read())
        is_shown = metric("ackledger_processor_circuit_open")
        site.database_line.plug()
        started = time.monotonic()
        await all_completed(database, transfers.ids)
        took_s = time.monotonic() - started
        is_open = workshop.circuit.is_open
    await nothing_unsettled(site.channel)

    assert (ready.status, not_ready.status) == (200, 503)
    assert b"circuit open" in not_ready.body
    assert (is_shown, metric("ackledger_processor_circuit_open")) == (1, 0)
    assert metric("ackledger_processor_circuit_openings_total") == openings + 1
    assert not is_open
    assert took_s < RECOVERY_S
    await assert_posted_once(database, transfers)


async def test_a_standby_whose_database_answers_takes_over(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 2)
    async with processing(site.database_line.url, site.broker_url) as cut_off:
        await post_one(database, site.publisher, transfers.ids[0])
        async with processing(site.database_url, site.broker_url) as standby:
            site.database_line.unplug()
            await announce(site.publisher, transfers.ids[1:])
            await all_completed(database, transfers.ids, within_s=RECOVERY_S)
            open_circuits = (cut_off.circuit.is_open, standby.circuit.is_open)

    assert open_circuits == (True, False)
    await assert_posted_once(database, transfers)


async def test_an_outage_costs_a_message_one_delivery_however_long_it_lasts(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 1)
    async with processing(site.database_line.url, site.broker_url) as workshop:
        site.database_line.unplug()
        retries = metric("ackledger_processor_retries_total")
        await announce(site.publisher, transfers.ids)
        await circuit_open(workshop)
        await _given_back(site.channel, 1)
        tries = metric("ackledger_processor_retries_total") - retries
        message = await _next_message(site.channel)
    headers = message.header.properties.headers or {}

    assert tries == 3
    assert headers["x-delivery-count"] == 1


async def test_a_database_that_falls_silent_opens_the_circuit(
    database: Connection, site: Site
) -> None:
    transfers = await recorded_transfers(database, 2)
    async with processing(
        site.database_line.url, site.broker_url, statement_timeout_s=0.2, lock_timeout_s=0.1
    ) as workshop:
        await post_one(database, site.publisher, transfers.ids[0])
        site.database_line.fall_silent()
        await announce(site.publisher, transfers.ids[1:])
        # The first try alone would wait for longer.
        await circuit_open(workshop, within_s=LOOK_EVERY_S + PROBE_TIMEOUT_S + 3.0)
        await _given_back(site.channel, 1)
        site.database_line.plug()
        started = time.monotonic()
        await all_completed(database, transfers.ids)
        took_s = time.monotonic() - started

    assert took_s < RECOVERY_S
    await assert_posted_once(database, transfers)


async def _stuck() -> bool:
    return metric("ackledger_processor_stuck") == 1


async def _wait_out_a_storm(
    database: Connection,
    database_url: str,
    publisher: Publisher,
    free: Transfers,
    blocked: Transfers,
) -> tuple[int, int]:
    """Hold the blocked wallet's row until a batch is stuck; return what was posted meanwhile."""
    holder = await connect(database_url, name="test")
    lock = holder.transaction()
    await lock.start()
    await holder.execute("SELECT * FROM wallets WHERE id = $1 FOR UPDATE", blocked.source)
    await announce(publisher, [*free.ids, *blocked.ids])
    await eventually(_stuck, what="a batch that is known to be stuck")
    await all_completed(database, free.ids)
    before = await completed(database, blocked.ids)
    await lock.rollback()
    await holder.close()
    return await completed(database, free.ids), before


async def test_a_lock_storm_holds_the_batch_and_all_is_posted_when_the_lock_is_free(
    database: Connection, site: Site
) -> None:
    free, blocked = await recorded_transfers(database, 1), await recorded_transfers(database, 6)
    openings = metric("ackledger_processor_circuit_openings_total")
    async with processing(site.database_url, site.broker_url, lock_timeout_s=0.05) as workshop:
        posted = await _wait_out_a_storm(database, site.database_url, site.publisher, free, blocked)
        await all_completed(database, blocked.ids, within_s=RECOVERY_S)
        is_up = workshop.consumer.is_up
    await nothing_unsettled(site.channel)

    assert posted == (1, 0)
    assert is_up
    assert metric("ackledger_processor_stuck") == 0
    assert metric("ackledger_processor_circuit_openings_total") == openings
    assert await database.fetchval("SELECT count(*) FROM exceptional_transactions") == 0
    order = await database.fetch(
        "SELECT transaction_id FROM entries WHERE wallet_id = $1 ORDER BY sequence", blocked.source
    )
    assert [row["transaction_id"] for row in order] == blocked.ids


async def test_statements_that_always_time_out_quarantine_nobody(
    database: Connection, site: Site
) -> None:
    free, blocked = await recorded_transfers(database, 1), await recorded_transfers(database, 2)
    async with processing(
        site.database_url, site.broker_url, statement_timeout_s=0.1, lock_timeout_s=60
    ):
        posted = await _wait_out_a_storm(database, site.database_url, site.publisher, free, blocked)
        await all_completed(database, blocked.ids, within_s=RECOVERY_S)
    await nothing_unsettled(site.channel)

    assert posted == (1, 0)
    assert await database.fetchval("SELECT count(*) FROM exceptional_transactions") == 0
