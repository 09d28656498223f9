"""Reviews for operators: one session with the database and, for approvals, the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from cli.dependencies import check_database, database_failures
from cli.migrating import MigrateSettings
from runtime.amqp.publisher import Publisher
from runtime.postgres.assets import read_assets
from runtime.postgres.pool import create_pool
from runtime.screening.reviews import Reviews

BROKER_PATIENCE_S: Final = 5.0
"""An approval waits so long for the broker; without it the reconciler announces it later."""


@asynccontextmanager
async def open_reviews(settings: MigrateSettings, *, is_publishing: bool) -> AsyncIterator[Reviews]:
    """Give the operations; raises CommandError for what an operator can mend."""
    await check_database(settings)
    pool = create_pool(
        settings.database_url,
        name="reviews",
        size=2,
        statement_timeout_s=settings.database_statement_timeout_s,
    )
    publisher = Publisher(settings.amqp_url, name="reviews")
    link = asyncio.create_task(publisher.run()) if is_publishing else None
    try:
        with database_failures(settings):
            await pool
            await read_assets(pool)
            if link is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(publisher.wait_until_up(), BROKER_PATIENCE_S)
            yield Reviews(pool=pool, publisher=publisher, partitions=settings.partitions)
    finally:
        if link is not None:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)
        await pool.close()
