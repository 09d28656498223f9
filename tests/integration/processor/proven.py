"""A system whose books are proven at its end, and what tests of holds ask it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from reconciler.schedule import LOOKUP_SESSION
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tools.stack import Stack
from verification.verify import verify


@asynccontextmanager
async def proven_doors(
    stack: Stack, template: str, directory: Path, **options: Any
) -> AsyncIterator[CheckedDoors]:
    """Open doors (`open_doors` has the options) whose books are clean after all that they saw."""
    async with open_doors(stack, template, directory, **options) as opened:
        yield opened
        connection = await connect(opened.database_url, name="test", session=dict(LOOKUP_SESSION))
        report = await verify(connection, pending_max_s=300.0)
        await connection.close()
        assert report.findings == ()


async def rich_and_poor(api: CheckedApi) -> tuple[str, str]:
    """Return a wallet with 100.00 USD and an empty one."""
    rich, poor = await api.create_wallet(), await api.create_wallet()
    await api.deposit(rich, "100.00")
    return rich, poor


async def amounts_of(api: CheckedApi, wallet: str) -> tuple[str, str, str]:
    """Return what a wallet has, holds and can pay."""
    found = (await api.get(f"/v1/wallets/{wallet}")).json
    return found["balance"], found["held"], found["available"]
