"""SIGTERM ends a processor within its bound, whatever does not answer."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contracts.topology import partition_queue
from runtime.amqp.topology import look_at_queue
from runtime.postgres.pool import Connection
from tests.integration.processor.failures.conftest import Site
from tests.integration.processor.failures.line import Line
from tests.integration.processor.failures.workshop import (
    all_completed,
    announce,
    assert_posted_once,
    processing,
    recorded_transfers,
)
from tests.support import eventually

pytestmark = pytest.mark.long

TIMEOUT_S = 2.0
MARGIN_S = 9.0
"""For closing the broker's two connections and the pool, each bounded, and a busy machine."""


@asynccontextmanager
async def _processor(
    database: Line, broker: Line, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        "DATABASE_URL": database.url,
        "AMQP_URL": broker.url,
        "ACKLEDGER_STATUS_PORT": "0",
        "ACKLEDGER_SHUTDOWN_TIMEOUT_S": str(TIMEOUT_S),
        "ACKLEDGER_DATABASE_STATEMENT_TIMEOUT_S": "2",
        "ACKLEDGER_LOCK_TIMEOUT_S": "1",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "processor", env=environment, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _terminated(process: asyncio.subprocess.Process) -> tuple[int, float]:
    """Return exit code and seconds from the signal to the end."""
    started = time.monotonic()
    process.terminate()
    async with asyncio.timeout(60):
        code = await process.wait()
    return code, time.monotonic() - started


async def _logged(log: Path, event: str) -> None:
    async def look() -> bool:
        return event in await asyncio.to_thread(log.read_text)

    await eventually(look, what=f"{event} in the log", within_s=30.0)


@pytest.mark.parametrize("server", ["database", "broker"])
@pytest.mark.parametrize("is_silent", [False, True], ids=["down", "silent"])
async def test_a_processor_whose_server_is_away_ends_within_its_bound(
    database: Connection, site: Site, tmp_path: Path, *, server: str, is_silent: bool
) -> None:
    transfers = await recorded_transfers(database, 2)
    line = site.database_line if server == "database" else site.broker_line
    log = tmp_path / "processor.log"
    async with _processor(site.database_line, site.broker_line, log) as process:
        await announce(site.publisher, transfers.ids[:1])
        await all_completed(database, transfers.ids[:1])
        if is_silent:
            line.fall_silent()
        else:
            line.unplug()
        await announce(site.publisher, transfers.ids[1:])
        if server == "database" and not is_silent:
            await _logged(log, "circuit_opened")
        code, took_s = await _terminated(process)
    async with processing(site.database_url, site.broker_url):
        line.plug()
        await all_completed(database, transfers.ids, within_s=40.0)

    text = log.read_text()
    assert code == 0, text[-3000:]
    assert "service_stopped" in text
    assert "Traceback" not in text
    assert took_s < TIMEOUT_S + MARGIN_S
    await assert_posted_once(database, transfers)


async def test_a_batch_that_cannot_be_committed_is_given_back_at_once(
    database: Connection, site: Site, tmp_path: Path
) -> None:
    """A lock holds the batch: the end does not wait for it, and nothing is lost."""
    transfers = await recorded_transfers(database, 1)
    log = tmp_path / "processor.log"
    async with _processor(site.database_line, site.broker_line, log) as process:
        async with database.transaction():
            await database.execute("SELECT * FROM wallets FOR UPDATE")
            await announce(site.publisher, transfers.ids)
            await _logged(log, "batch_retried")
            code, took_s = await _terminated(process)
        state = await look_at_queue(site.channel, partition_queue(0))
    async with processing(site.database_url, site.broker_line.url):
        await all_completed(database, transfers.ids)

    assert code == 0
    assert "drain_timed_out" not in log.read_text()
    assert took_s < TIMEOUT_S + MARGIN_S
    assert (state.waiting, state.consumers) == (1, 0)
    await assert_posted_once(database, transfers)
