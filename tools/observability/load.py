"""A little of everything that a panel shows: what the proof looks at has to happen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import aio_pika
import aiohttp
import orjson

from contracts.topology import TRANSACTIONS_EXCHANGE
from tools.chaos.background import running
from tools.system import System

PAUSE_S: Final = 0.02
"""Between two submissions: some tens a second, which leaves the machine to what watches."""
RARE_S: Final = 2.0
"""Between two failed logins, and two messages that nobody can read."""
TRANSFER_EVERY: Final = 3
TOO_LARGE_EVERY: Final = 10
HOLD_EVERY: Final = 20
_PASSING: Final = (aiohttp.ClientError, aio_pika.exceptions.AMQPError, OSError, TimeoutError)


class Load:
    """Traffic over both doors until it is cancelled; a server that is away is asked again."""

    def __init__(self, system: System, *, upstream_url: str, webhook_url: str) -> None:
        self._system = system
        self._upstream_url = upstream_url
        self._webhook_url = webhook_url

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Load the system as long as the block lasts."""
        headers = {
            "Authorization": f"Bearer {self._system.api_key}",
            "Content-Type": "application/json",
        }
        async with aiohttp.ClientSession(self._system.http_url, headers=headers) as session:
            wallets = [str((await _made(session, "wallets", currency="EUR"))["id"]) for _ in "ab"]
            await _made(session, "webhooks", url=f"{self._webhook_url}/events", event_types=["*"])
            async with (
                running(self._submit(session, wallets)),
                running(self._fail(session)),
                running(self._follow(session)),
            ):
                yield

    async def _submit(self, session: aiohttp.ClientSession, wallets: list[str]) -> None:
        number = 0
        while True:
            number += 1
            key = {"Idempotency-Key": uuid4().hex}
            await _tried(session, "/v1/transactions", _body(number, wallets), key)
            await asyncio.sleep(PAUSE_S)

    async def _fail(self, session: aiohttp.ClientSession) -> None:
        """Log in with a wrong password, and send what is no JSON."""
        while True:
            login = {"email": "nobody@example.org", "password": uuid4().hex}
            await _tried(session, "/v1/auth/login", login, {})
            try:
                async with await aio_pika.connect(self._upstream_url) as connection:
                    channel = await connection.channel()
                    exchange = await channel.get_exchange(TRANSACTIONS_EXCHANGE, ensure=False)
                    await exchange.publish(aio_pika.Message(b"{"), uuid4().hex)
            except _PASSING:
                pass
            await asyncio.sleep(RARE_S)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                async with session.get(
                    "/v1/events", timeout=aiohttp.ClientTimeout(total=None)
                ) as response:
                    async for _ in response.content.iter_any():
                        pass
            except _PASSING:
                pass
            await asyncio.sleep(RARE_S)


async def _made(session: aiohttp.ClientSession, what: str, **fields: Any) -> dict[str, Any]:
    async with session.post(f"/v1/{what}", data=orjson.dumps(fields)) as response:
        response.raise_for_status()
        return dict(await response.json())


async def _tried(
    session: aiohttp.ClientSession, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    try:
        async with session.post(path, data=orjson.dumps(body), headers=headers) as response:
            await response.read()
    except _PASSING:
        await asyncio.sleep(PAUSE_S)


def _body(number: int, wallets: list[str]) -> dict[str, Any]:
    """Return a deposit, and at times a transfer, one that is refused, or a hold that expires."""
    here, there = wallets[number % 2], wallets[(number + 1) % 2]
    moved = {"amount": "1.00", "currency": "EUR", "destination_wallet_id": here}
    if number % HOLD_EVERY == 0:
        return {**moved, "type": "hold", "source_wallet_id": there, "expires_in_s": 20}
    if number % TOO_LARGE_EVERY == 0:
        return {**moved, "type": "transfer", "source_wallet_id": there, "amount": "999999.00"}
    if number % TRANSFER_EVERY == 0:
        return {**moved, "type": "transfer", "source_wallet_id": there}
    return {**moved, "type": "deposit"}
