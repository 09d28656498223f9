"""A little of everything that a panel shows: what the proof looks at has to happen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final
from uuid import uuid4

import aio_pika
import aiohttp
import orjson

from contracts.messages import REQUESTED_TYPE
from contracts.topology import TRANSACTIONS_EXCHANGE
from tools.chaos.background import running
from tools.system import CLIENT, System

PAUSE_S: Final = 0.02
"""Between two submissions: some tens a second, which leaves the machine to what watches."""
RARE_S: Final = 2.0
"""Between two failed logins."""
PUBLISHED_S: Final = 0.2
BROKEN_EVERY: Final = 10
"""Every so many messages one is a dead letter."""
TRANSFER_EVERY: Final = 3
TOO_LARGE_EVERY: Final = 10
HOLD_EVERY: Final = 20
_PROPERTIES: Final[dict[str, Any]] = {
    "content_type": "application/json",
    "type": REQUESTED_TYPE,
    "user_id": CLIENT,
    "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
}
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
                running(self._publish(wallets[0])),
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

    async def _publish(self, wallet_id: str) -> None:
        """Publish deposits as an upstream system does, and now and then what nobody can read.

        The broker takes them whatever the database does: so a processor without it has work.
        """
        while True:
            try:
                async with await aio_pika.connect(self._upstream_url) as connection:
                    channel = await connection.channel()
                    exchange = await channel.get_exchange(TRANSACTIONS_EXCHANGE, ensure=False)
                    for number in count(1):
                        body = b"{" if number % BROKEN_EVERY == 0 else _message(wallet_id)
                        message = aio_pika.Message(body, **_PROPERTIES)
                        await exchange.publish(message, wallet_id)
                        await asyncio.sleep(PUBLISHED_S)
            except _PASSING:
                await asyncio.sleep(RARE_S)

    async def _fail(self, session: aiohttp.ClientSession) -> None:
        """Log in with a wrong password."""
        while True:
            login = {"email": "nobody@example.org", "password": uuid4().hex}
            await _tried(session, "/v1/auth/login", login, {})
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


def _message(wallet_id: str) -> bytes:
    return orjson.dumps(
        {
            "version": 1,
            "idempotency_key": uuid4().hex,
            "type": "deposit",
            "destination_wallet_id": wallet_id,
            "amount": "0.01",
            "currency": "EUR",
        }
    )


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
