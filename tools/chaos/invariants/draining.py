"""Waiting until every promise of the journal has come to its end."""

import asyncio
import time
from collections.abc import Iterator, Mapping

import asyncpg

from runtime.postgres.pool import CONNECT_TIMEOUT_S, connect
from runtime.postgres.queries import load_queries
from runtime.service.periodic import Backoff
from tools.chaos.doors import Doors
from tools.chaos.journal import Act, Journal, Outcome


async def await_drained(doors: Doors, journal: Journal, *, bound_s: float) -> float | None:
    """Return after how many seconds all was final, stored and told; None if not within the bound.

    Final: every promised key, and nothing PENDING. Stored: the dead letter of all poison. Told: the
    outbox owes nothing.
    """
    began = time.monotonic()
    sql = load_queries(__package__)
    backoff = Backoff(first_s=0.1, most_s=1.0)
    connection = await connect(doors.database_url, name="chaos-drain")
    try:
        async with asyncio.timeout(bound_s):
            await connection.execute(sql["make_awaited"])
            await connection.copy_records_to_table("awaited", records=_awaited(journal))
            while True:
                await asyncio.sleep(backoff.next_delay_s())
                if await _is_drained(connection, sql, doors.submitter):
                    return time.monotonic() - began
    except TimeoutError:
        return None
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _is_drained(
    connection: "asyncpg.Connection[asyncpg.Record]", sql: Mapping[str, str], submitter: str
) -> bool:
    await connection.execute(sql["drop_finished"], submitter)
    await connection.execute(sql["drop_buried"])
    row = await connection.fetchrow(sql["count_waiting"])
    return row is not None and row["unfinished"] == 0


def _awaited(journal: Journal) -> Iterator[tuple[str, bool]]:
    """Each promised key (more than once, if it was answered so), and whether a letter awaits it."""
    for promise in journal.read():
        match promise.act, promise.outcome:
            case ((Act.POISON | Act.OTHER_CONTENT), Outcome.CONFIRMED):
                yield promise.idempotency_key, True
            case ((Act.POISON | Act.OTHER_CONTENT | Act.CANCEL), _):
                continue
            case _, (Outcome.ACCEPTED | Outcome.CONFIRMED):
                yield promise.idempotency_key, False
