"""Letting whoever writes a wallet wait, and seeing that somebody does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from runtime.postgres.pool import Connection, connect
from tests.support import eventually

_HOLD = "SELECT FROM wallets WHERE id = $1 FOR UPDATE"


@asynccontextmanager
async def kept(database_url: str, wallet: UUID, *, by: str = _HOLD) -> AsyncIterator[None]:
    """Let whoever writes a wallet wait until the block is left."""
    keeper = await connect(database_url, name="keeper")
    try:
        async with keeper.transaction():
            await keeper.execute(by, wallet)
            yield
    finally:
        await keeper.close()


async def until_wait(database: Connection, count: int) -> None:
    """Return when so many wait for a lock."""

    async def look() -> bool:
        waiting: int = await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return waiting == count

    await eventually(look, what=f"{count} that wait for a lock")
