"""Publishing that believes only the broker's Basic.Ack."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from aiormq.exceptions import PublishError
from pamqp.commands import Basic

from runtime.broker import UNREACHABLE, BrokerLink, Channel, loss_as_error, user_of

PERSISTENT: Final = 2


class NotConfirmedError(Exception):
    """The broker did not confirm: the message may or may not have arrived. Publish it again."""


class UnroutableError(NotConfirmedError):
    """No queue took the message; it certainly did not arrive."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish, and where."""

    exchange: str
    routing_key: str
    body: bytes
    type: str
    correlation_id: str | None = None
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    is_mandatory: bool = True


class Publisher:
    """Publishes persistent, confirmed messages over one connection of its own.

    A memory alarm blocks connections that publish, so consumers have another.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._user = user_of(url)
        self._channel: Channel | None = None
        self._ready = asyncio.Event()
        self._link = BrokerLink(url, name=name, opened=self._take, lost=self._drop)

    async def run(self) -> None:
        """Keep connected until cancelled."""
        await self._link.run()

    @property
    def is_up(self) -> bool:
        """Whether a publish has a channel to go to."""
        return self._channel is not None

    async def wait_until_up(self) -> None:
        """Return as soon as there is a channel."""
        await self._ready.wait()

    async def publish(self, message: Outgoing, *, timeout_s: float) -> None:
        """Return when the broker has the message for sure; raises NotConfirmedError otherwise."""
        channel = self._channel
        if channel is None:
            raise NotConfirmedError("not connected")
        try:
            with loss_as_error():
                async with asyncio.timeout(timeout_s):
                    frame = await channel.basic_publish(
                        message.body,
                        exchange=message.exchange,
                        routing_key=message.routing_key,
                        properties=_properties(message, user=self._user),
                        mandatory=message.is_mandatory,
                    )
        except PublishError as error:
            place = message.exchange or message.routing_key
            raise UnroutableError(f"no queue took it: {place}") from error
        except UNREACHABLE as error:
            raise NotConfirmedError(repr(error)) from error
        if not isinstance(frame, Basic.Ack):
            raise NotConfirmedError(f"the broker answered {frame!r}")

    async def _take(self, channel: Channel) -> None:
        self._channel = channel
        self._ready.set()

    def _drop(self) -> None:
        self._channel = None
        self._ready.clear()


def _properties(message: Outgoing, *, user: str) -> Basic.Properties:
    return Basic.Properties(
        content_type=message.content_type,
        delivery_mode=PERSISTENT,
        # Fresh for each try: two publishes in flight with one id get each other's outcome.
        message_id=uuid4().hex,
        correlation_id=message.correlation_id,
        timestamp=datetime.now(UTC),
        message_type=message.type,
        user_id=user,
        app_id="ackledger",
        headers=dict(message.headers),
    )
