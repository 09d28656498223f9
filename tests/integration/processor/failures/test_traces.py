"""What is committed is told at level debug; that it cannot be told costs the batch nothing."""

from processor.deciding import WalletCache
from processor.poster import Poster
from runtime.postgres.pool import Connection
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.books import open_pool, recorded
from tests.integration.processor.failures.workshop import assert_posted_once, recorded_transfers


class _HidesRequestIds(FaultPoints):
    """Renames what only the log asks for, when a batch is read and not written yet."""

    def __init__(self, database: Connection) -> None:
        self._database = database

    async def reach(self, point: FaultPoint) -> None:
        """Rename."""
        assert point is FaultPoint.PROCESSOR_BEFORE_COMMIT
        await self._database.execute(
            "ALTER TABLE transactions RENAME COLUMN request_id TO asked_as"
        )


async def test_a_trace_that_cannot_be_read_after_the_commit_fails_no_batch(
    database: Connection, database_url: str
) -> None:
    transfers = await recorded_transfers(database, 3)
    async with open_pool(database_url) as pool:
        poster = Poster(pool, wallet_cache=WalletCache(), fault_points=_HidesRequestIds(database))
        result = await poster.post(transfers.ids)

    assert [one.transaction_id for one in recorded(result.outcomes)] == transfers.ids
    await assert_posted_once(database, transfers)
