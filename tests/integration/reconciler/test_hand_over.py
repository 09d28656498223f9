"""Two reconciler processes: one dies or stands still, the other leads within ten seconds."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from reconciler.retry_queue import READER_AFTER_S
from runtime.postgres.pool import Connection
from tests.integration.reconciler.parts import PARTITIONS
from tests.integration.reconciler.pending import record_pending
from tests.support import PATIENCE_S, eventually
from tools.system import Instance, Role, System

pytestmark = pytest.mark.long

HAND_OVER_MAX_S = 10.0
NAMES = ("one", "other")


@pytest.fixture
async def system(database_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """Two reconcilers and nothing else."""
    system = System(
        environment={
            "DATABASE_URL": database_url,
            "AMQP_URL": broker_url,
            "ACKLEDGER_PARTITIONS": str(PARTITIONS),
            "ACKLEDGER_STALE_AFTER_S": "0.2",
            "ACKLEDGER_RECONCILE_INTERVAL_S": "0.2",
            "ACKLEDGER_INTEGRITY_INTERVAL_S": "0.2",
            "ACKLEDGER_STATUS_PORT": "0",
        },
        directory=tmp_path,
        instances=[Instance(role=Role.RECONCILER, name=name) for name in NAMES],
        say=lambda _: None,
    )
    async with system:
        yield system


async def _metric(system: System, name: str, metric: str) -> float:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
        session.get(f"{system.status_urls[name]}/metrics") as answer,
    ):
        text = await answer.text()
    found = re.search(rf"^{metric}(?:_total)? ([\d.e+-]+)$", text, re.MULTILINE)
    assert found, metric
    return float(found[1])


async def _leads(system: System, name: str) -> bool:
    return await _metric(system, name, "ackledger_reconciler_is_leader") == 1.0


async def _leader_and_follower(system: System) -> tuple[str, str]:
    async def look() -> tuple[str, str] | None:
        leaders = [name for name in NAMES if await _leads(system, name)]
        [follower] = [name for name in NAMES if name not in leaders] if leaders else [""]
        return (leaders[0], follower) if leaders else None

    return await eventually(look, what="one leader")


async def _await_lead(system: System, name: str) -> float:
    """Return the seconds until an instance leads."""
    began = time.monotonic()

    async def look() -> bool:
        return await _leads(system, name)

    await eventually(look, what=f"{name} leads", within_s=HAND_OVER_MAX_S)
    return time.monotonic() - began


async def _await_swept(system: System, name: str, at_least: float) -> None:
    async def look() -> bool:
        return await _metric(system, name, "ackledger_reconciler_swept_rows") >= at_least

    # A session of the frozen one that only reads may hold the horizon up for so long.
    within_s = READER_AFTER_S + PATIENCE_S
    await eventually(look, what=f"{name} has swept {at_least:g} rows", within_s=within_s)


async def test_another_leads_within_ten_seconds_of_a_kill(
    system: System, database: Connection
) -> None:
    leader, follower = await _leader_and_follower(system)

    await asyncio.to_thread(system.kill, leader)
    took_s = await _await_lead(system, follower)

    await record_pending(database, 5)
    await _await_swept(system, follower, 5)
    assert took_s < HAND_OVER_MAX_S


async def test_another_leads_within_ten_seconds_of_a_stop_and_the_old_one_follows(
    system: System, database: Connection
) -> None:
    leader, follower = await _leader_and_follower(system)
    await record_pending(database, 3)
    await _await_swept(system, leader, 3)
    pid = system.pid(leader)
    assert pid is not None

    os.kill(pid, signal.SIGSTOP)
    try:
        took_s = await _await_lead(system, follower)
        await record_pending(database, 5)
        await _await_swept(system, follower, 5)
    finally:
        os.kill(pid, signal.SIGCONT)

    async def follows() -> bool:
        return not await _leads(system, leader)

    await eventually(follows, what="the old leader knows that it is none")
    await record_pending(database, 7)
    await _await_swept(system, follower, 12)

    assert took_s < HAND_OVER_MAX_S
    assert await _leads(system, follower)
    assert await _metric(system, leader, "ackledger_reconciler_swept_rows") == 3
    assert "lead_given_up" in system.log(leader).read_text()
