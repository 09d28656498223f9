"""One look at the database, as if it were a process that serves metrics."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from cli.dependencies import Connection, database_connection
from cli.watch.reading import OPEN_DEAD_LETTERS
from cli.watch.snapshot import Metrics, ProcessLook, Snapshot
from runtime.postgres.queries import load_queries
from runtime.service.settings import DatabaseSettings

COUNTED_MAX: Final = 100_000
"""What is counted is counted up to this, as the reconciler does."""
STATEMENT_TIMEOUT_S: Final = 10.0

Look = Callable[[], Awaitable[Snapshot]]


@asynccontextmanager
async def database_looks(settings: DatabaseSettings) -> AsyncIterator[Look]:
    """Give what looks at the database, over one connection; raises CommandError."""
    async with database_connection(settings, name="watch") as connection:
        yield lambda: _look(connection)


async def _look(connection: Connection) -> Snapshot:
    book = await connection.fetchrow(
        load_queries("reconciler")["observe_book"], COUNTED_MAX, timeout=STATEMENT_TIMEOUT_S
    )
    flow = await connection.fetchrow(
        load_queries("cli")["watch_flow"], COUNTED_MAX, timeout=STATEMENT_TIMEOUT_S
    )
    if book is None or flow is None:
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
