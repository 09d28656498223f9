"""What waits for a lock holds up no submission, and does not wait without an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from runtime.postgres.pool import ACQUIRE_TIMEOUT_S, Connection, connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import deposit, eventually

REQUESTS: Final = 40
"""More than all connections of an ingress together."""

_WAITING: Final = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@asynccontextmanager
async def _holding(database_url: str, statement: str) -> AsyncIterator[Connection]:
    """Hold the locks that a statement takes."""
    connection = await connect(database_url, name="test")
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield connection
    finally:
        await connection.close()


async def _submissions_are_accepted(holder: Connection, api: CheckedApi, wallet: str) -> None:
    """Fails unless some requests wait and submissions are answered before any gives up."""

    async def are_waiting() -> bool:
        return int(await holder.fetchval(_WAITING)) >= 4

    await eventually(are_waiting, what="requests that wait for the lock")
    async with asyncio.timeout(ACQUIRE_TIMEOUT_S / 2):
        for _ in range(20):
            answer = await api.submit(deposit(wallet, "1.00"), wait=None)
            assert answer.status == 202
            assert (await api.get(f"/v1/wallets/{wallet}")).status == 200


async def test_submissions_are_accepted_while_lists_wait_for_a_lock(
    doors: CheckedDoors, api: CheckedApi, wallet: str
) -> None:
    # Lists of FAILED transactions read this table; no submission does.
    lock = "LOCK TABLE exceptional_transactions"
    async with _holding(doors.database_url, lock) as holder:
        lists = [
            asyncio.create_task(api.get("/v1/transactions", status="FAILED"))
            for _ in range(REQUESTS)
        ]
        await _submissions_are_accepted(holder, api, wallet)
        done, _ = await asyncio.wait(
            lists, timeout=2 * ACQUIRE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        refused = next(iter(done)).result()

    assert (refused.status, refused.code) == (503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert {(await one).status for one in lists} == {200, 503}


async def test_submissions_are_accepted_while_changes_wait_for_their_wallet(
    doors: CheckedDoors, api: CheckedApi, wallet: str
) -> None:
    changed = await api.create_wallet()
    lock = f"SELECT 1 FROM wallets WHERE id = '{changed}' FOR UPDATE"
    async with _holding(doors.database_url, lock) as holder:
        changes = [
            asyncio.create_task(
                api.call("PATCH", f"/v1/wallets/{changed}", json={"metadata": {"n": n}})
            )
            for n in range(REQUESTS)
        ]
        await _submissions_are_accepted(holder, api, wallet)

    assert {(await one).status for one in changes} == {200}
