"""Traffic as the processes make it: requests are accepted and posted, batch after batch."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from uuid import UUID

import asyncpg

from contracts.money import Money
from contracts.record import Submission
from contracts.requests.transaction import TransactionCommand, TransactionType, fingerprint_of_json
from ingress.submit.recorder import Accepted, Dispatcher, Recorder
from processor.poster import Poster
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Pool, connect
from tests.integration.processor.books import add_wallets, open_pool
from tests.integration.reconciler.serving import running
from tests.support import eventually
from verification.verify import verify

WALLETS = 8
BATCH = 8
NO_BROKER = "amqp://nobody@127.0.0.1:1/"
"""Recording needs no broker: what it records is posted here by its id."""


class Traffic:
    """Deposits and transfers among a few wallets, counted as they are posted."""

    def __init__(self, pool: Pool, wallets: Sequence[UUID]) -> None:
        publisher = Publisher(NO_BROKER, name="test")
        self.recorder = Recorder(
            pool=pool,
            dispatcher=Dispatcher(publisher, partitions=1),
            partitions=1,
            group_size=BATCH,
            flushers=1,
            confirm_timeout_s=1,
        )
        self._poster = Poster(pool)
        self._wallets = wallets
        self._chance = random.Random(1)
        self._stopping = asyncio.Event()
        self.posted = 0

    async def run(self) -> None:
        """Accept and post until told to stop."""
        async with running(self.recorder):
            for number in count():
                if self._stopping.is_set():
                    return
                await self._batch(number)

    async def more(self, wanted: int) -> None:
        """Return when so many more were posted."""
        until = self.posted + wanted

        async def enough() -> bool:
            return self.posted >= until

        await eventually(enough, what=f"{wanted} more posted")

    def stop(self) -> None:
        """End with the batch in hand."""
        self._stopping.set()

    async def _batch(self, number: int) -> None:
        commands = [self._command(f"{number}-{position}") for position in range(BATCH)]
        accepted = await self.recorder.accept([Submission("test", one) for one in commands])
        ids = [one.row.id for one in accepted if isinstance(one, Accepted)]
        assert len(ids) == BATCH, accepted
        self.posted += await self._post(ids)

    async def _post(self, ids: Sequence[UUID]) -> int:
        """Post as a processor does: who loses a fight for locks does the same batch again."""
        while True:
            try:
                result = await self._poster.post(ids)
            except asyncpg.TransactionRollbackError:
                continue
            return len(result.posting.posted)

    def _command(self, key: str) -> TransactionCommand:
        source, destination = self._chance.sample(self._wallets, 2)
        # Every second one brings money in, so that the transfers have something to move.
        is_deposit = self._chance.random() < 1 / 2
        return TransactionCommand(
            idempotency_key=key,
            fingerprint=fingerprint_of_json(key),
            type=TransactionType.DEPOSIT if is_deposit else TransactionType.TRANSFER,
            source_wallet_id=None if is_deposit else source,
            destination_wallet_id=destination,
            money=Money(self._chance.randint(1, 20), "USD"),
            description=None,
            metadata=b"{}",
        )


@asynccontextmanager
async def flowing(database_url: str) -> AsyncIterator[Traffic]:
    """Run traffic beside the body; afterwards all of it has ended and the books are right."""
    connection = await connect(database_url, name="test")
    async with open_pool(database_url) as pool:
        traffic = Traffic(pool, await add_wallets(connection, WALLETS))
        async with asyncio.TaskGroup() as group:
            group.create_task(traffic.run())
            try:
                await traffic.more(10)
                yield traffic
                await traffic.more(10)
            finally:
                traffic.stop()
    await assert_books_are_right(connection)
    await connection.close()


async def assert_books_are_right(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Assert that nothing waits, and that the books prove themselves."""
    pending = "SELECT count(*) FROM transactions WHERE status = 'PENDING'"
    assert await connection.fetchval(pending) == 0
    report = await verify(connection, pending_max_s=300)
    assert [finding.to_json() for finding in report.findings] == []
