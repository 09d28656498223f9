"""Submitting transfers over HTTP from many clients at once, and waiting until all are posted."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp

from cli.dependencies import Connection
from tools.bench.draining import await_posted
from tools.bench.ground import Field
from tools.bench.laying import Transfer

AT_ONCE: Final = 64
ENDED_IN_S: Final = 120.0


async def submit_all(field: Field, connection: Connection, transfers: Sequence[Transfer]) -> None:
    """Submit transfers, so many at once, and return when all are posted."""
    waiting = iter(transfers)
    headers = {"Authorization": f"Bearer {field.system.api_key}"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(
        field.system.http_url, headers=headers, connector=connector
    ) as session:

        async def submit() -> None:
            for one in waiting:
                async with session.post("/v1/transactions", json=_body(one)) as answer:
                    answer.raise_for_status()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(submit())
    async with asyncio.timeout(ENDED_IN_S):
        await await_posted(connection)


def _body(transfer: Transfer) -> Mapping[str, object]:
    return {name: value for name, value in transfer.to_json().items() if value is not None}
