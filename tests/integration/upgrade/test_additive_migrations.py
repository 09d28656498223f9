"""Processes of the release before work on the tables of the next: what is only added is no matter.

The processes are today's, and the migration is one that the next release might bring.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from contracts.requests.wallet import ValidWalletRequest
from ingress.reads.wallets import WalletStore
from reconciler.retry_queue import Sweep
from runtime.postgres.migrate import load_migrations, migrate, missing_migrations
from runtime.postgres.pool import Pool, connect
from runtime.postgres.queries import load_queries
from tests.integration.processor.books import open_pool
from tests.integration.upgrade.traffic import flowing

_TABLES: Final = (
    "wallets",
    "transactions",
    "entries",
    "outbox",
    "exceptional_transactions",
    "dead_letters",
    "stale_transactions",
    "wallet_requests",
    "api_keys",
    "audit_log",
)
_MIGRATION: Final = "-- migrate:up\n" + "".join(
    f"ALTER TABLE {table} ADD COLUMN since_upgrade text;\n" for table in _TABLES
)
_NEW_TABLE: Final = "-- migrate:up\nCREATE TABLE since_upgrade (id uuid PRIMARY KEY);\n"


def _next_release(folder: Path) -> Path:
    (folder / "9000_columns.sql").write_text(_MIGRATION)
    (folder / "9001_table.sql").write_text(_NEW_TABLE)
    return folder


async def _upgrade(database_url: str, folder: Path) -> None:
    connection = await connect(database_url, name="migrate")
    applied = await migrate(connection, load_migrations(_next_release(folder)), tries=10)
    await connection.close()
    assert len(applied) == 2


async def _use(pool: Pool, wallet_ids: Sequence[UUID]) -> None:
    """Do what the processes do beside accepting and posting, on every connection of the pool."""
    store = WalletStore(pool, lists=pool)
    queries = load_queries("ingress")

    async def use_one() -> None:
        async with pool.acquire() as connection, connection.transaction():
            for wallet_id in wallet_ids:
                locked = await store.lock(connection, wallet_id)
                assert locked is not None
                assert await store.change(connection, wallet_id, ("ACTIVE", 0, None)) is not None
            await connection.fetch(queries["read_transactions"], list(wallet_ids))

    await asyncio.gather(*(use_one() for _ in range(pool.get_size() or 1)))


async def test_accepting_and_posting_go_on_over_added_columns_and_tables(
    database_url: str, tmp_path: Path
) -> None:
    async with flowing(database_url) as traffic:
        await traffic.more(100)
        await _upgrade(database_url, tmp_path)
        await traffic.more(100)


async def test_statements_that_were_prepared_before_serve_after(
    database_url: str, tmp_path: Path
) -> None:
    async with open_pool(database_url) as pool:
        created = await WalletStore(pool, lists=pool).create(
            _wallet_request(), submitter="test", idempotency_key=None
        )
        wallet_ids = [created.row["id"]]
        for _ in range(6):
            # The server plans anew for the first five times; from then on it keeps its plan.
            await _use(pool, wallet_ids)
        await Sweep(pool).run_once(older_than_s=0)

        await _upgrade(database_url, tmp_path)

        await _use(pool, wallet_ids)
        await Sweep(pool).run_once(older_than_s=0)


async def test_the_release_before_finds_nothing_missing_in_the_next_one_s_tables(
    database_url: str, tmp_path: Path
) -> None:
    await _upgrade(database_url, tmp_path)
    connection = await connect(database_url, name="test")

    assert await missing_migrations(connection, load_migrations()) == []
    assert await migrate(connection, load_migrations()) == []
    await connection.close()


def _wallet_request() -> ValidWalletRequest:
    return ValidWalletRequest(currency="USD", owner_id=None, overdraft_limit=0, metadata=b"{}")
