"""What tests share: bounded waiting, and clients for both doors."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

import aio_pika
import aiohttp
import orjson
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractRobustConnection

Found = TypeVar("Found")

PATIENCE_S: Final = 20.0
_LOOK_INTERVAL_S: Final = 0.02


async def eventually(
    look: Callable[[], Awaitable[Found | None]], *, what: str, within_s: float = PATIENCE_S
) -> Found:
    """Return the first truthy thing that `look` finds; fails after a bound."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        found = await look()
        if found:
            return found
        await asyncio.sleep(_LOOK_INTERVAL_S)
    raise AssertionError(f"not within {within_s:g} s: {what}")


async def in_passes(step: Callable[[], Awaitable[int]], *, count: int, what: str) -> int:
    """Return what passes over the ids of transactions found together, as soon as it is so much.

    Beside whoever writes, each leaves what is younger than a second to the next.
    """
    found = 0

    async def is_enough() -> bool:
        nonlocal found
        found += await step()
        return found >= count

    await eventually(is_enough, what=what)
    return found


class Answer:
    """An HTTP answer, read whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The decoded body."""
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem."""
        return str(self.json["code"])


class Api:
    """The HTTP door, as a client with an API key uses it."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            self.url,
            headers=self.headers,
            connector=aiohttp.TCPConnector(limit=200),
            timeout=aiohttp.ClientTimeout(total=40),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; `data` goes as it is, `json` encoded."""
        if self._session is None:
            raise AssertionError("enter the client first")
        body = orjson.dumps(json) if json is not None else data
        sent = dict(headers or {})
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self._session.request(
            method, path, data=body, headers=sent, params=params
        ) as response:
            answer = Answer(response.status, response.headers, await response.read())
        self.check(answer, method, path)
        return answer

    def check(self, answer: Answer, method: str, path: str) -> None:
        """Look at every answer; a client that expects something of all of them says so here."""

    async def get(self, path: str, **params: str) -> Answer:
        """GET with query parameters."""
        return await self.call("GET", path, params=params)

    async def create_wallet(self, currency: str = "USD", **fields: Any) -> str:
        """Create a wallet and return its id."""
        answer = await self.call("POST", "/v1/wallets", json={"currency": currency, **fields})
        assert answer.status == 201, answer.body
        return str(answer.json["id"])

    async def submit(
        self, body: Mapping[str, Any], *, key: str | None = None, wait: int | None = 20
    ) -> Answer:
        """Submit a transaction under a key (fresh unless given), by default to its end."""
        headers = {"Idempotency-Key": key or uuid4().hex}
        if wait is not None:
            headers["Prefer"] = f"wait={wait}"
        return await self.call("POST", "/v1/transactions", json=dict(body), headers=headers)

    async def deposit(self, wallet_id: str, amount: str, currency: str = "USD") -> Answer:
        """Deposit, and wait for the end."""
        return await self.submit(deposit(wallet_id, amount, currency))

    async def balance(self, wallet_id: str) -> str:
        """Return a wallet's balance."""
        return str((await self.get(f"/v1/wallets/{wallet_id}")).json["balance"])


def deposit(wallet_id: str, amount: Any, currency: str = "USD") -> dict[str, Any]:
    """Return the body of a deposit."""
    return {
        "type": "deposit",
        "destination_wallet_id": wallet_id,
        "amount": amount,
        "currency": currency,
    }


def withdrawal(wallet_id: str, amount: Any, currency: str = "USD") -> dict[str, Any]:
    """Return the body of a withdrawal."""
    return {
        "type": "withdrawal",
        "source_wallet_id": wallet_id,
        "amount": amount,
        "currency": currency,
    }


def transfer(source: str, destination: str, amount: Any, currency: str = "USD") -> dict[str, Any]:
    """Return the body of a transfer."""
    return {
        "type": "transfer",
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": amount,
        "currency": currency,
    }


class Upstream:
    """The AMQP door, as an upstream system uses it."""

    def __init__(self, url: str, *, user: str) -> None:
        self.url = url
        self.user = user
        self._connection: AbstractConnection | AbstractRobustConnection | None = None

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def channel(self) -> AbstractChannel:
        """Return a fresh channel with confirms."""
        if self._connection is None:
            raise AssertionError("enter the client first")
        return await self._connection.channel(on_return_raises=True)

    async def publish(
        self,
        body: bytes | Mapping[str, Any],
        *,
        routing_key: str = "any",
        **properties: Any,
    ) -> None:
        """Publish one message, confirmed; a property of None is left out."""
        channel = await self.channel()
        settings: dict[str, Any] = {
            "content_type": "application/json",
            "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
            "user_id": self.user,
            "type": "transaction.requested.v1",
            **properties,
        }
        message = aio_pika.Message(
            body if isinstance(body, bytes) else orjson.dumps(body),
            **{name: value for name, value in settings.items() if value is not None},
        )
        exchange = await channel.get_exchange("ackledger.transactions", ensure=False)
        await exchange.publish(message, routing_key=routing_key, mandatory=True)
        await channel.close()


def requested(body: Mapping[str, Any], *, key: str | None = None) -> dict[str, Any]:
    """Return a transaction's body as an upstream message has it."""
    return {"version": 1, "idempotency_key": key or uuid4().hex, **body}
