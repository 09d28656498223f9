"""The reconciler as a whole: as a loop, as one pass by hand, and as a process."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from reconciler.composition import reconcile_once
from reconciler.retry_queue import RetryQueue
from reconciler.schedule import ReconcileCounts, reconciler_leadership
from runtime.amqp.connection import Channel
from runtime.amqp.topology import check_queue
from runtime.postgres.pool import Connection, Pool
from runtime.service.settings import ReconcilerSettings, load_settings
from tests.integration.reconciler.parts import PARTITIONS, QUEUES, make_reconciler
from tests.integration.reconciler.pending import record_pending, taken_ids
from tests.integration.reconciler.serving import running
from tests.support import eventually, in_passes

ROOT = Path(__file__).resolve().parents[3]


def _environment(database_url: str, broker_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "AMQP_URL": broker_url,
        "ACKLEDGER_PARTITIONS": str(PARTITIONS),
        "ACKLEDGER_STALE_AFTER_S": "0.2",
        "ACKLEDGER_RECONCILE_INTERVAL_S": "0.2",
    }


async def _depth(channel: Channel) -> int:
    return sum([await check_queue(channel, queue) for queue in QUEUES])


async def _wait_for_messages(channel: Channel) -> None:
    async def look() -> bool:
        return await _depth(channel) > 0

    assert await eventually(look, what="a republished message")


async def test_it_publishes_what_becomes_stale_while_it_leads(
    pool: Pool, database: Connection, database_url: str, retry_queue: RetryQueue, channel: Channel
) -> None:
    reconciler = make_reconciler(
        pool, retry_queue, reconciler_leadership(database_url), stale_after_s=0.2
    )
    async with running(reconciler):
        ids = await record_pending(database, 1)
        await _wait_for_messages(channel)
        await reconciler.drain()

    groups = [group for queue in QUEUES for group in await taken_ids(channel, queue)]
    assert groups == [ids]


async def test_it_goes_on_after_the_database_cut_every_connection(
    pool: Pool, database: Connection, database_url: str, retry_queue: RetryQueue, channel: Channel
) -> None:
    leadership = reconciler_leadership(database_url)
    reconciler = make_reconciler(pool, retry_queue, leadership, stale_after_s=0.1)

    async def leads() -> bool:
        return leadership.is_leader

    async with running(reconciler):
        await eventually(leads, what="the lead")
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await record_pending(database, 1)
        await _wait_for_messages(channel)


async def test_one_pass_by_hand_tells_what_it_did(
    database: Connection, database_url: str, broker_url: str
) -> None:
    settings = load_settings(ReconcilerSettings, _environment(database_url, broker_url))
    await record_pending(database, 3)

    left_alone = await reconcile_once(settings, older_than_s=60)
    taken = await reconcile_once(settings, older_than_s=0)

    assert left_alone == ReconcileCounts(
        swept=0, stale=0, ended=0, expired=0, republished=0, waiting=0, is_paused=False
    )
    assert taken == ReconcileCounts(
        swept=3, stale=3, ended=0, expired=0, republished=3, waiting=3, is_paused=False
    )


async def test_one_pass_by_hand_works_beside_a_leader(
    pool: Pool, database: Connection, database_url: str, broker_url: str, retry_queue: RetryQueue
) -> None:
    settings = load_settings(ReconcilerSettings, _environment(database_url, broker_url))
    reconciler = make_reconciler(
        pool, retry_queue, reconciler_leadership(database_url), stale_after_s=3600
    )
    async with running(reconciler):
        await record_pending(database, 2)

        async def sweep() -> int:
            return (await reconcile_once(settings, older_than_s=0)).stale

        swept = await in_passes(sweep, count=2, what="both are swept")
        counts = await reconcile_once(settings, older_than_s=0)

    # The leader may have been quicker to publish what these passes have swept.
    assert swept == 2
    assert counts.waiting == 2


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_process_serves_its_metrics_and_ends_on_sigterm(
    database: Connection, database_url: str, broker_url: str, channel: Channel
) -> None:
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "reconciler",
        cwd=ROOT,
        env={**_environment(database_url, broker_url), "ACKLEDGER_STATUS_PORT": str(port)},
        stderr=asyncio.subprocess.PIPE,
    )
    await record_pending(database, 2)
    await _wait_for_messages(channel)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def is_ready() -> bool:
            async with session.get("/readyz") as answer:
                return answer.status == 200

        async def has_counted() -> str | None:
            async with session.get("/metrics") as answer:
                text = await answer.text()
            return text if "ackledger_reconciler_stale_transactions_total 2.0" in text else None

        assert await eventually(is_ready, what="readiness")
        metrics = await eventually(has_counted, what="both are counted")
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        _, errors = await process.communicate()

    assert process.returncode == 0, errors
    assert "ackledger_reconciler_is_leader 1.0" in metrics
    assert b"transactions_republished" in errors


@pytest.mark.parametrize(("name", "value"), [("ACKLEDGER_STALE_AFTER_S", "soon"), ("AMQP_URL", "")])
async def test_a_wrong_setting_stops_the_start_and_is_named(
    database_url: str, broker_url: str, name: str, value: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "reconciler",
        cwd=ROOT,
        env={**_environment(database_url, broker_url), name: value},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, errors = await process.communicate()

    assert process.returncode == 2
    assert name.encode() in errors
