"""What operators' commands work with: a pool, and where they publish a link to the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from cli.dependencies import check_database, database_failures
from cli.migrating import MigrateSettings
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import read_assets
from runtime.postgres.pool import Pool, create_pool

BROKER_PATIENCE_S: Final = 5.0
"""What is announced waits so long for the broker; without it the reconciler announces it later."""


class Operating(NamedTuple):
    """The servers, as a command reaches them."""

    pool: Pool
    publisher: Publisher


@asynccontextmanager
async def operating(
    settings: MigrateSettings, *, name: str, is_publishing: bool
) -> AsyncIterator[Operating]:
    """Give both, under a name that the servers list; raises CommandError.

    Unless something is to be published, the broker is not asked for.
    """
    await check_database(settings)
    pool = create_pool(
        settings.database_url,
        name=name,
        size=2,
        statement_timeout_s=settings.database_statement_timeout_s,
    )
    publisher = Publisher(settings.amqp_url, name=name)
    link = asyncio.create_task(publisher.run()) if is_publishing else None
    try:
        with database_failures(settings):
            await pool
            await read_assets(pool)
            if link is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(publisher.wait_until_up(), BROKER_PATIENCE_S)
            yield Operating(pool, publisher)
    finally:
        if link is not None:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)
        await pool.close()
