"""Publishing as an upstream system does: confirmed, in order, sent again when the outcome is open.

The messages carry idempotency keys, so a message that arrives twice moves money once. After a loss
everything from the first unconfirmed message on is sent again: the order of a wallet stays.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import orjson
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    IncompatibleProtocolError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from pamqp.commands import Basic
from yarl import URL

from ackledger.client.errors import BrokerRefusedError, UnreachableError, UnroutableError
from ackledger.client.requests import Id, Json, Mode, Reversal, TransactionRequest
from contracts.messages import CONTENT_TYPE, REQUESTED_TYPE
from contracts.topology import TRANSACTIONS_EXCHANGE
from runtime.amqp.connection import UNREACHABLE, Channel, close, connect, open_channel
from runtime.amqp.publisher import PERSISTENT
from runtime.resilience.reasons import reason_of
from runtime.service.periodic import Backoff

CONFIRM_TIMEOUT_S: Final = 30.0
"""A quorum queue confirms in milliseconds; a broker in a memory alarm, when it is over."""
GIVE_UP_AFTER_S: Final = 60.0
FIRST_CONTACT_S: Final = 5.0
"""A broker that has not answered yet is given less time: the address may be wrong."""

_LOGIN_REFUSED: Final = (
    AuthenticationError,
    ConnectionNotAllowed,
    IncompatibleProtocolError,
    ProbableAuthenticationError,
)
_PUBLISH_REFUSED: Final = (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)


def quiet_libraries() -> None:
    """Keep the broker's libraries from printing each failed try: we tell the last one."""
    for name in ("aio_pika", "aiormq"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class UpstreamMessage:
    """A message of an upstream system; `transactions` is how many it stands for.

    `sets_user` False leaves the property user_id out, which the service refuses.
    """

    routing_key: str
    body: bytes
    transactions: int = 1
    type: str | None = REQUESTED_TYPE
    content_type: str | None = CONTENT_TYPE
    sets_user: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    reply_to: str | None = None
    correlation_id: str | None = None


class AsyncPublisher:
    """One connection of an upstream user, with a window of messages that await their confirm.

    Raises BrokerRefusedError when the broker refuses user, rights or exchange (UnroutableError when
    it returns a message), UnreachableError after `give_up_after_s` without a confirm: then nobody
    knows what has arrived, and the same requests may be published again.

        async with AsyncPublisher("amqps://shop:…@broker.example/") as publisher:
            await publisher.publish(Transfer(...))
    """

    def __init__(
        self, url: str, *, window: int = 256, give_up_after_s: float = GIVE_UP_AFTER_S
    ) -> None:
        """`window` bounds the unconfirmed messages, and so the memory that they take."""
        self._url = url
        self._window = window
        self._give_up_after_s = give_up_after_s
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._in_flight: deque[tuple[UpstreamMessage, asyncio.Task[None]]] = deque()
        self._turn = asyncio.Lock()
        self._last_success = 0.0
        self.user = URL(url).user or "guest"
        self.confirmed_transactions = 0
        self.confirmed_messages = 0
        self.resent_messages = 0

    def __repr__(self) -> str:
        """Name user and host, never the password."""
        return f"{type(self).__name__}({self.user}@{URL(self._url).host})"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Connect; entering the context does the same."""
        self._last_success = time.monotonic()
        try:
            await self._open()
        except InvalidFrameError as error:
            vhost = URL(self._url).path.removeprefix("/") or "/"
            raise BrokerRefusedError(
                f"the broker closes the connection: is there a virtual host '{vhost}', "
                f"and may the user {self.user} use it?"
            ) from error
        except _LOGIN_REFUSED as error:
            raise BrokerRefusedError(f"the broker refused the user {self.user}: {error}") from error
        except UNREACHABLE as error:
            await self._open_again(error, patience_s=min(FIRST_CONTACT_S, self._give_up_after_s))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what is not confirmed by then is given up."""
        await self._abandon()
        if self._connection is not None:
            await close(self._connection)

    async def publish(self, request: TransactionRequest, *, ordered_by: Id | None = None) -> None:
        """Publish a transaction, and return when the broker has it for sure.

        `ordered_by` is the wallet whose order it keeps. A capture, a release and a reversal do not
        name it: there it is the source of the hold or of the reversed transaction.
        """
        body = {"version": 1, **_body_over_amqp(request)}
        await self._publish_whole(_message(body, ordered_by or request.ordered_by, transactions=1))

    async def publish_batch(
        self,
        requests: Sequence[TransactionRequest],
        *,
        mode: Mode = "independent",
        ordered_by: Id | None = None,
    ) -> None:
        """Publish up to a thousand in one message, to be posted in their order.

        `ordered_by` is by default the wallet of the first of them.
        """
        body: Json = {"version": 1, "transactions": [_body_over_amqp(one) for one in requests]}
        if mode == "atomic":
            body["mode"] = mode
        wallet = ordered_by or requests[0].ordered_by
        await self._publish_whole(_message(body, wallet, transactions=len(requests)))

    async def _publish_whole(self, message: UpstreamMessage) -> None:
        async with self._turn:
            await self.send(message)
            await self.flush()

    async def send(self, message: UpstreamMessage) -> None:
        """Put a message on its way, in order; waits while the window is full."""
        while len(self._in_flight) >= self._window:
            await self._settle_first()
        if not self._in_flight:
            self._last_success = time.monotonic()
        self._start(message)

    async def flush(self) -> None:
        """Return when the broker has every message for sure."""
        while self._in_flight:
            await self._settle_first()

    def _start(self, message: UpstreamMessage) -> None:
        # Tasks start in the order of their making, and the channel's lock is fair: order is kept.
        self._in_flight.append((message, asyncio.create_task(self._publish(message))))

    async def _publish(self, message: UpstreamMessage) -> None:
        channel = self._channel
        if channel is None:
            raise ConnectionError("not connected")
        async with asyncio.timeout(CONFIRM_TIMEOUT_S):
            frame = await channel.basic_publish(
                message.body,
                exchange=TRANSACTIONS_EXCHANGE,
                routing_key=message.routing_key,
                properties=properties_of(message, self.user),
                mandatory=True,
            )
        if not isinstance(frame, Basic.Ack):
            raise ConnectionError(f"the broker answered {frame!r}")

    async def _settle_first(self) -> None:
        message, task = self._in_flight[0]
        try:
            await asyncio.shield(task)
        except PublishError as error:
            self._in_flight.popleft()
            raise UnroutableError(
                f"no queue is bound to {TRANSACTIONS_EXCHANGE}; run: ackledger migrate"
            ) from error
        except _PUBLISH_REFUSED as error:
            self._in_flight.popleft()
            raise BrokerRefusedError(f"the broker refused: {error}") from error
        except UNREACHABLE as error:
            await self._send_again(error)
            return
        self._in_flight.popleft()
        self._last_success = time.monotonic()
        self.confirmed_messages += 1
        self.confirmed_transactions += message.transactions

    async def _send_again(self, error: BaseException) -> None:
        """Connect anew and send all that is unconfirmed again, in order."""
        messages = [message for message, _ in self._in_flight]
        await self._abandon()
        await self._open_again(error, patience_s=self._give_up_after_s)
        self.resent_messages += len(messages)
        for message in messages:
            self._start(message)

    async def _abandon(self) -> None:
        tasks = [task for _, task in self._in_flight]
        self._in_flight.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        if self._connection is not None:
            await close(self._connection)
        self._connection = await connect(self._url, name="upstream")
        self._channel = await open_channel(self._connection)

    async def _open_again(self, error: BaseException, *, patience_s: float) -> None:
        """Open a connection as long as patience lasts; a broker that starts refuses logins, too."""
        backoff = Backoff(first_s=0.2, most_s=3.0)
        while True:
            if time.monotonic() - self._last_success >= patience_s:
                host = URL(self._url).host
                raise UnreachableError(f"the broker at {host}: {reason_of(error)}")
            await asyncio.sleep(backoff.next_delay_s())
            try:
                await self._open()
            except UNREACHABLE as next_error:
                error = next_error
            else:
                return


def _body_over_amqp(request: TransactionRequest) -> Json:
    if isinstance(request, Reversal) and request.force:
        raise ValueError("force is for HTTP alone")
    return request.body()


def _message(body: Json, ordered_by: Id | None, *, transactions: int) -> UpstreamMessage:
    if ordered_by is None:
        raise ValueError("name the wallet that is debited: ordered_by")
    return UpstreamMessage(
        routing_key=str(ordered_by), body=orjson.dumps(body), transactions=transactions
    )


def properties_of(message: UpstreamMessage, user: str) -> Basic.Properties:
    """Return the properties of one try to publish a message."""
    return Basic.Properties(
        content_type=message.content_type,
        delivery_mode=PERSISTENT,
        # Fresh for each try: two publishes in flight with one id get each other's outcome.
        message_id=uuid4().hex,
        user_id=user if message.sets_user else None,
        message_type=message.type,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        timestamp=datetime.now(UTC),
        headers=dict(message.headers),
    )
