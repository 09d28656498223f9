"""The two doors as a chaos client uses them: one attempt, one answer, never an exception."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final, Protocol, Self, assert_never
from uuid import UUID

import aiohttp
import orjson
from aiormq.exceptions import PublishError
from pamqp.commands import Basic

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.errors import UnreachableError
from ackledger.client.publishing import UpstreamMessage, properties_of
from contracts.topology import TRANSACTIONS_EXCHANGE
from runtime.amqp.connection import UNREACHABLE, BrokerLink, Channel, loss_as_error, user_of
from tools.chaos.background import running
from tools.chaos.doors import Doors
from tools.chaos.journal import Outcome

ATTEMPT_TIMEOUT_S: Final = 10.0
"""Longer than an ingress waits for a confirm, and than a healthy answer ever takes."""
_FIRST_CONNECTION_S: Final = 5.0
_LATER: Final = frozenset({408, 429})
_SERVER_ERROR: Final = 500
_NOT_CONNECTED: Final = "not_connected"
_LOST: Final = (aiohttp.ClientError, UnreachableError, TimeoutError, OSError)

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What an attempt was answered; `code` says more where it was not taken."""

    outcome: Outcome
    transaction_id: UUID | None = None
    code: str | None = None


class Form(Enum):
    """How transactions are sent."""

    SINGLE = auto()
    BATCH = auto()
    ATOMIC = auto()

    def body_of(self, bodies: Sequence[Body]) -> dict[str, Any]:
        """Return what a request or a message says."""
        match self:
            case Form.SINGLE:
                [body] = bodies
                return dict(body)
            case Form.BATCH:
                return {"transactions": list(bodies)}
            case Form.ATOMIC:
                return {"mode": "atomic", "transactions": list(bodies)}
            case _:
                assert_never(self)


class Attempts(Protocol):
    """A door, as seen by whoever has transactions to ask for."""

    async def ask(self, bodies: Sequence[Body], *, routing_key: str, form: Form) -> Sequence[Reply]:
        """Send once; return a reply for each body, in their order."""


class HttpDoor:
    """Every ingress, one session each. A client goes to each of them in turn."""

    def __init__(self, doors: Doors, *, first: int, connections: int) -> None:
        """`first` picks the ingress to begin with; `connections` bounds those to each of them."""
        self._clients = [
            # Without patience: one try is one attempt, and whoever calls decides on the next.
            AsyncClient(url, doors.api_key, connections=connections, give_up_after_s=0)
            for url in doors.http_urls
        ]
        self._turn = first
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._exits.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def ask(self, bodies: Sequence[Body], *, routing_key: str, form: Form) -> Sequence[Reply]:
        """Send once; return a reply for each body, in their order."""
        del routing_key  # the ingress finds the partition by itself
        path = "/v1/transactions" if form is Form.SINGLE else "/v1/transactions/batch"
        status, answer = await self.next("POST", path, body=form.body_of(bodies))
        if form is Form.SINGLE:
            return [reply_of(status, answer)]
        if status != HTTPStatus.ACCEPTED:
            return [reply_of(status, answer)] * len(bodies)
        return [_item_reply(item) for item in answer["items"]]

    async def next(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Call the ingress whose turn it is."""
        self._turn += 1
        return await self.call(
            method, path, body=body, headers=headers, parameters=parameters, place=self._turn
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        place: int,
    ) -> tuple[int, Any]:
        """Return status and decoded body; status 0 and the reason where there was no answer.

        `place` picks the ingress.
        """
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                client = self._clients[place % len(self._clients)]
                answer = await client.call(
                    method, path, body=body, headers=headers, parameters=parameters
                )
        except _LOST as error:
            return 0, f"{type(error).__name__}: {error}"[:200]
        return answer.status, answer.body


class AmqpDoor:
    """One connection of the upstream user, made again whenever it is lost."""

    def __init__(self, url: str, *, name: str) -> None:
        self._user = user_of(url)
        self._channel: Channel | None = None
        self._up = asyncio.Event()
        self._link = BrokerLink(url, name=name, opened=self._take, lost=self._drop)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Keep connected inside the block, which begins without a broker too, if a little later."""
        async with running(self._link.run()):
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_CONNECTION_S):
                    await self._up.wait()
            yield self

    async def ask(self, bodies: Sequence[Body], *, routing_key: str, form: Form) -> Sequence[Reply]:
        """Send once, all in one message; return the same reply for each body."""
        body = orjson.dumps({"version": 1, **form.body_of(bodies)})
        reply = await self.publish(UpstreamMessage(routing_key=routing_key, body=body))
        return [reply] * len(bodies)

    async def publish(self, message: UpstreamMessage) -> Reply:
        """Publish once; CONFIRMED only by the broker's Basic.Ack."""
        channel = self._channel
        if channel is None:
            return Reply(Outcome.UNKNOWN, code=_NOT_CONNECTED)
        try:
            with loss_as_error():
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    frame = await channel.basic_publish(
                        message.body,
                        exchange=TRANSACTIONS_EXCHANGE,
                        routing_key=message.routing_key,
                        properties=properties_of(message, self._user),
                        mandatory=True,
                    )
        except PublishError:
            return Reply(Outcome.UNKNOWN, code="unroutable")
        except UNREACHABLE as error:
            return Reply(Outcome.UNKNOWN, code=f"{type(error).__name__}: {error}"[:200])
        if not isinstance(frame, Basic.Ack):
            return Reply(Outcome.UNKNOWN, code=f"{type(frame).__name__}")
        return Reply(Outcome.CONFIRMED)

    async def _take(self, channel: Channel) -> None:
        self._channel = channel
        self._up.set()

    def _drop(self) -> None:
        self._channel = None
        self._up.clear()


def reply_of(status: int, answer: Any) -> Reply:
    """Return what the HTTP answer to one transaction means."""
    if status in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
        return Reply(Outcome.ACCEPTED, transaction_id=UUID(answer["id"]))
    code = answer.get("code") if isinstance(answer, dict) else str(answer)
    is_open = status in _LATER or status == 0 or status >= _SERVER_ERROR
    return Reply(Outcome.UNKNOWN if is_open else Outcome.REFUSED, code=f"{status} {code}")


def _item_reply(item: Mapping[str, Any]) -> Reply:
    return reply_of(item["status_code"], item.get("transaction") or item.get("problem"))
