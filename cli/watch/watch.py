"""The watch: look at processes or at the database, wait, look again, and hand each reading on."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from cli.dependencies import Connection, database_connection
from cli.failures import UnreachableError
from reconciler.observation import COUNTED_MAX, observe_book
from runtime.postgres.queries import load_queries
from runtime.service.settings import DatabaseSettings
from runtime.watching.reading import (
    OPEN_DEAD_LETTERS,
    Metrics,
    ProcessLook,
    Reading,
    Snapshot,
    reading_of,
    take_snapshot,
)

LOOK_TIMEOUT_S: Final = 10.0
"""Both statements are bounded; a server that takes longer is in trouble that no watch shows."""

Look = Callable[[], Awaitable[Snapshot]]


@asynccontextmanager
async def database_looks(settings: DatabaseSettings) -> AsyncIterator[Look]:
    """Give what looks at the database, over one connection; raises CommandError."""
    async with database_connection(settings, name="watch") as connection:
        yield lambda: _look(connection)


async def _look(connection: Connection) -> Snapshot:
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            book = await observe_book(connection)
            flow = await connection.fetchrow(load_queries("cli")["watch_flow"], COUNTED_MAX)
    except TimeoutError:
        raise UnreachableError(f"PostgreSQL took longer than {LOOK_TIMEOUT_S:g} s") from None
    if flow is None:
        raise AssertionError("an aggregate has a row")
    outcomes = {"completed": flow["ended"] - flow["exceptional"], "failed": flow["exceptional"]}
    samples = {
        "ackledger_ingress_submissions_total": {frozenset({("standing", "new")}): flow["recorded"]},
        "ackledger_processor_transactions_total": {
            frozenset({("outcome", name)}): value for name, value in outcomes.items()
        },
        "ackledger_pending_transactions": {_ALONE: book["pending"]},
        "ackledger_oldest_pending_seconds": {_ALONE: book["oldest_pending_s"]},
        "ackledger_open_holds": {_ALONE: book["open_holds"]},
        "ackledger_outbox_rows": {_ALONE: book["owed"]},
        "ackledger_notifier_waiting_webhooks": {_ALONE: flow["waiting_webhooks"]},
        OPEN_DEAD_LETTERS: {_ALONE: flow["open_dead_letters"]},
    }
    database = ProcessLook("up", metrics=Metrics(samples))
    return Snapshot(time.monotonic(), {"database": database})


_ALONE: Final[frozenset[tuple[str, str]]] = frozenset()


@asynccontextmanager
async def status_looks(urls: Callable[[], Mapping[str, str]]) -> AsyncIterator[Look]:
    """Give what looks at processes by their status ports.

    `urls` is asked each time, so a system that was started anew is found again.
    """
    async with aiohttp.ClientSession() as session:
        yield lambda: take_snapshot(session, urls())


async def readings(look: Look, *, interval_s: float) -> AsyncIterator[tuple[Snapshot, Reading]]:
    """Yield a snapshot and what happened since the one before, for ever.

    Raises UnreachableError when nobody answers the first look.
    """
    before = await look()
    if not any(one.metrics.samples for one in before.processes.values()):
        troubles = "; ".join(f"{name}: {one.trouble}" for name, one in before.processes.items())
        raise UnreachableError(f"no process answers ({troubles})")
    while True:
        await asyncio.sleep(interval_s)
        now = await look()
        yield now, reading_of(before, now)
        before = now
