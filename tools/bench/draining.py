"""Draining: a backlog is laid before warm processes, the gate opens, the tables tell the rate."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from cli.dependencies import Connection
from contracts.identifiers import first_id_at
from runtime.postgres.queries import load_queries
from tools.bench.failing import BenchFailedError
from tools.bench.ground import Field
from tools.bench.laying import Kind, Request, lay, partition_for
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter

LOOK_S: Final = 0.1
"""One look is a lookup by a key; the rate does not depend on when it is made."""
DRAINED_IN_S: Final = 600.0


async def drain(
    field: Field, connection: Connection, kind: Kind, transfers: Sequence[Request]
) -> Figures:
    """Lay a backlog on a gated field, open the gate, and return rates and CPU time.

    Raises BenchFailedError when it is not drained in time, or something was drained twice.
    """
    sql = load_queries("tools.bench")
    began: datetime = await connection.fetchval(sql["read_clock"])
    await lay(field.ground, connection, kind, transfers)
    await connection.execute(sql["settle_tables"])
    opened: datetime = await connection.fetchval(sql["read_clock"])
    meter = CpuMeter(field.cpu_pids)
    await field.gate.open()
    await await_ended(field, connection, transfers)
    cpu = meter.figures(len(transfers))
    [row] = await connection.fetch(sql["measure_drain"], first_id_at(began), opened)
    per_s = rate_of(row, expected=len(transfers))
    await _until(connection, sql["is_told"], what="events")
    told: datetime = await connection.fetchval(sql["read_clock"])
    told_s = (told - row["first_at"]).total_seconds()
    return {"transactions_per_s": per_s, "events_per_s": row["after_first"] / told_s, **cpu}


async def await_ended(field: Field, connection: Connection, transfers: Sequence[Request]) -> None:
    """Return when the last of each queue is posted or refused: a queue posts in its order."""
    question = load_queries("tools.bench")["is_ended"]
    last = {partition_for(one, field.ground): one.key for one in transfers}
    for key in last.values():
        await _until(connection, question, field.ground.submitter, key, what="posting")


def rate_of(row: Any, *, expected: int) -> float:
    """Return transactions a second between the first and the last commit.

    The first commit's own do not count: nobody knows when they began.
    """
    if row["transactions"] != expected:
        raise BenchFailedError(f"{row['transactions']} ended where {expected} were laid")
    seconds = (row["last_at"] - row["first_at"]).total_seconds()
    if seconds <= 0:
        raise BenchFailedError("all ended in one commit: nothing to measure")
    return float(row["after_first"] / seconds)


async def _until(connection: Connection, question: str, *arguments: object, what: str) -> None:
    deadline = time.monotonic() + DRAINED_IN_S
    while not await connection.fetchval(question, *arguments):
        if time.monotonic() > deadline:
            raise BenchFailedError(f"{what}: not done in {DRAINED_IN_S:.0f} s")
        await asyncio.sleep(LOOK_S)


async def await_posted(connection: Connection) -> int:
    """Return when nothing is PENDING, and how many were when we came."""
    first = await waiting(connection)
    deadline = time.monotonic() + DRAINED_IN_S
    while await waiting(connection):
        if time.monotonic() > deadline:
            raise BenchFailedError(f"posting: not done in {DRAINED_IN_S:.0f} s")
        await asyncio.sleep(LOOK_S)
    return first


async def waiting(connection: Connection) -> int:
    """Return how many transactions are PENDING."""
    count: int = await connection.fetchval(load_queries("tools.bench")["count_waiting"])
    return count
