"""An unannounced transaction that cannot be posted does not take the one after it along."""

from uuid import uuid4

from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.processor.failures.workshop import (
    all_completed,
    announce,
    nothing_unsettled,
    processing,
    recorded_transfers,
)
from tests.support import eventually


async def test_one_that_fails_alone_is_quarantined_and_the_next_one_is_posted(
    database: Connection, database_url: str, broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    [broken_wallet, other] = await add_wallets(database, 2, balance=100)
    # The entry that the transaction would become is there already: posting would double it.
    await database.execute(
        "INSERT INTO entries VALUES ($1, 1, $2, 0, 100, now())", broken_wallet, uuid4()
    )
    [broken] = await record(database, [transfer_command("broken", broken_wallet, other, 1)])
    transfers = await recorded_transfers(database, 2)
    await database.executemany(
        "INSERT INTO unannounced_transactions VALUES (0, 'test', $1)",
        [(broken,), (transfers.ids[0],)],
    )
    async with processing(database_url, broker_url):
        await announce(publisher, [transfers.ids[1]])
        await all_completed(database, transfers.ids)

        async def look() -> bool:
            status: str = await database.fetchval(
                "SELECT status::text FROM transactions WHERE id = $1", broken
            )
            return status == "QUARANTINED"

        await eventually(look, what="the broken one in quarantine")
    await nothing_unsettled(channel)
