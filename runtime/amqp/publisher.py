"""Publishing that believes only the broker's Basic.Ack."""

import asyncio
from collections.abc import Sequence

from runtime.amqp.confirming import (
    ConfirmChannel,
    NotConfirmedError,
    RefusedError,
    UnroutableError,
    open_confirm_channel,
)
from runtime.amqp.connection import (
    CONNECT_TIMEOUT_S,
    UNREACHABLE,
    BrokerLink,
    Channel,
    loss_as_error,
    user_of,
)
from runtime.amqp.wire.filtered_connection import SiftedConnection
from runtime.amqp.wire.frame_encoder import Outgoing

__all__ = ["NotConfirmedError", "Outgoing", "Publisher", "RefusedError", "UnroutableError"]


class Publisher:
    """Publishes persistent, confirmed messages over one connection of its own.

    A memory alarm blocks connections that publish, so consumers have another.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._user = user_of(url)
        self._channel: ConfirmChannel | None = None
        self._ready = asyncio.Event()
        self._link = BrokerLink(
            url, name=name, opened=self._take, lost=self._drop, opening=self._open
        )

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
        await self.publish_all([message], timeout_s=timeout_s)

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout_s: float) -> None:
        """Return when the broker has every message for sure; they leave in their order.

        Raises NotConfirmedError unless all were confirmed: any of them may have arrived then. As a
        RefusedError it says which of them were refused; all others of the call arrived. Calls that
        are made one after the other write one after the other, and do not wait for each other's
        confirms.
        """
        channel = self._channel
        if channel is None:
            raise NotConfirmedError("not connected")
        if not messages:
            return
        try:
            with loss_as_error():
                async with asyncio.timeout(timeout_s):
                    flight = await channel.write(messages)
                    await flight.landed
        except UNREACHABLE as error:
            raise NotConfirmedError(repr(error)) from error
        flight.check()

    async def _open(self, connection: SiftedConnection) -> Channel:
        channel = await open_confirm_channel(
            connection, user=self._user, timeout_s=CONNECT_TIMEOUT_S
        )
        self._channel = channel
        return channel

    async def _take(self, _: Channel) -> None:
        self._ready.set()

    def _drop(self) -> None:
        self._channel = None
        self._ready.clear()
