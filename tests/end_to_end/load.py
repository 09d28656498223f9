"""Load for fault tests: transfers that are sent again until they are accepted, and clean books."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from uuid import uuid4

import aiohttp

from runtime.postgres.pool import connect
from tests.support import Api, deposit, eventually, transfer
from verification.verify import verify

CLIENTS = 4
OUTAGE_S = 60.0
"""Longer than any server takes to come back on a busy machine."""

_LOST = (aiohttp.ClientError, TimeoutError, OSError)

_UNFINISHED = "SELECT count(*) FROM transactions WHERE status IN ('PENDING', 'QUARANTINED')"
_UNBALANCED = """
SELECT w.id FROM wallets AS w LEFT JOIN entries AS e ON e.wallet_id = w.id
GROUP BY w.id HAVING w.balance <> coalesce(sum(e.amount), 0) OR w.version <> count(e.sequence)
"""
_CREATED_MONEY = "SELECT currency FROM wallets GROUP BY currency HAVING sum(balance) <> 0"
_LEGS = """
SELECT (SELECT count(*) FROM entries) - 2 * count(*) FROM transactions WHERE status = 'COMPLETED'
"""


class Load:
    """Clients that move money among four wallets until they are told to stop."""

    def __init__(self, api: Api, wallets: list[str]) -> None:
        self._api = api
        self._wallets = wallets
        self._stopping = asyncio.Event()
        self.accepted: dict[str, str] = {}
        self.refusals: set[int] = set()

    async def run(self, client: int) -> None:
        """Submit one transfer after the other; what fails goes again under its key."""
        chance = random.Random(client)
        for number in count():
            if self._stopping.is_set():
                return
            source, destination = chance.sample(self._wallets, 2)
            body = transfer(source, destination, f"{chance.randint(1, 300)}.00")
            await self._accepted(f"{uuid4().hex}-{number}", body)

    async def more(self, wanted: int) -> None:
        """Return when so many more were accepted."""
        until = len(self.accepted) + wanted

        async def enough() -> bool:
            return len(self.accepted) >= until

        await eventually(enough, what=f"{wanted} more accepted", within_s=OUTAGE_S)

    def stop(self) -> None:
        """Submit nothing new; what was begun is still accepted."""
        self._stopping.set()

    async def _accepted(self, key: str, body: dict[str, str]) -> None:
        async def attempt() -> str | None:
            try:
                answer = await self._api.submit(body, key=key, wait=None)
            except _LOST:
                return None
            if answer.status not in {200, 202}:
                self.refusals.add(answer.status)
                return None
            return str(answer.json["id"])

        self.accepted[key] = await eventually(attempt, what=f"{key} accepted", within_s=OUTAGE_S)


@asynccontextmanager
async def loaded(api: Api) -> AsyncIterator[Load]:
    """Run clients meanwhile; at the end all that they began is accepted."""
    wallets = [await api.create_wallet() for _ in range(4)]
    for wallet in wallets:
        assert (await api.submit(deposit(wallet, "1000.00"), wait=30)).status == 200
    load = Load(api, wallets)
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(load.run(number))
        try:
            yield load
        finally:
            load.stop()


async def assert_all_is_final(database_url: str, accepted: dict[str, str]) -> None:
    """Assert that every accepted transaction ended, once, and that the books prove themselves."""
    connection = await connect(database_url, name="test")
    try:

        async def drained() -> bool:
            return not await connection.fetchval(_UNFINISHED)

        await eventually(drained, what="nothing waits", within_s=OUTAGE_S)
        rows = await connection.fetch(
            "SELECT idempotency_key, id FROM transactions WHERE idempotency_key = ANY ($1)",
            list(accepted),
        )
        assert {row["idempotency_key"]: str(row["id"]) for row in rows} == accepted
        assert await connection.fetch(_UNBALANCED) == []
        assert await connection.fetch(_CREATED_MONEY) == []
        assert await connection.fetchval(_LEGS) == 0
        report = await verify(connection, pending_max_s=300)
        assert [finding.to_json() for finding in report.findings] == []
    finally:
        await connection.close()
