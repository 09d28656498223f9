"""RabbitMQ: one connection under our own loop, made again whenever it is lost.

The robust wrappers of aio-pika lose consumers (its issues 231, 334, 379, 563 and 626), so a plain
connection is used, and everything on it is built anew after a loss. Channels are the underlying
ones of aiormq: per message they cost half of aio-pika's own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from yarl import URL

from runtime.amqp.incoming import FilteredConnection, tolerate_undecodable_properties
from runtime.service.periodic import Backoff

Channel: TypeAlias = AbstractChannel

HEARTBEAT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 3.0

UNREACHABLE: Final[tuple[type[BaseException], ...]] = (
    OSError,
    TimeoutError,
    AMQPError,
    ChannelInvalidStateError,
    asyncio.InvalidStateError,
)
"""Errors that mean: the broker did not answer now, and may later."""

log = structlog.get_logger()


@contextmanager
def loss_as_error() -> Iterator[None]:
    """Turn a cancellation that nobody of ours asked for into a ConnectionResetError.

    The library cancels its own futures when a connection drops; let through, that would end the
    waiting task in silence. Where it has no reason to give, it says so with a bare Exception.
    """
    try:
        yield
    except Exception as error:
        if type(error) is Exception and isinstance(error.__cause__, asyncio.CancelledError):
            raise ConnectionResetError("the connection was lost, nobody said why") from error
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionResetError("the connection was lost in the middle of the call") from None


class BrokerLink:
    """Keeps one connection with one channel alive; each new channel goes to `opened`."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        opened: Callable[[Channel], Awaitable[None]],
        lost: Callable[[], None],
        opening: Callable[[FilteredConnection], Awaitable[Channel]] | None = None,
    ) -> None:
        """`name` shows in the broker's list of connections; `lost` runs when the channel ends.

        `opening` makes the channel, where it has to be another than `open_channel` makes.
        """
        self._url = str(URL(url).update_query(heartbeat=str(HEARTBEAT_S)))
        self._name = name
        self._opened = opened
        self._opening = opening or open_channel
        self._lost = lost
        self._cut = asyncio.Event()
        self._is_routine = False
        self.is_up = False

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=3.0)
        while True:
            try:
                with loss_as_error():
                    await self._serve_once(backoff)
            except UNREACHABLE as error:
                log.warning("broker_lost", connection=self._name, error=repr(error))
            await asyncio.sleep(backoff.next_delay_s())

    def cut(self, *, is_routine: bool = False) -> None:
        """Give up this connection; `run` makes a new one.

        `is_routine`: nothing is wrong, and nobody has to read of the next one at level info.
        """
        self._is_routine = is_routine
        self._cut.set()

    async def _serve_once(self, backoff: Backoff) -> None:
        self._cut.clear()
        connection = await connect(self._url, name=self._name)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                channel = await self._opening(connection)
                await self._opened(channel)
            _heed_cancellation()
            self.is_up = True
            backoff.reset()
            tell = log.debug if self._is_routine else log.info
            self._is_routine = False
            tell("broker_connected", connection=self._name)
            await self._ended(channel)
        finally:
            self.is_up = False
            self._lost()
            await close(connection)

    async def _ended(self, channel: Channel) -> None:
        """Wait until the channel or its connection ends, or someone cuts it."""
        cut = asyncio.ensure_future(self._cut.wait())
        # `closing` is shielded: cancelling our wait must not close the channel behind our back.
        closing = asyncio.ensure_future(_settled(channel.closing))
        try:
            await asyncio.wait({cut, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cut.cancel()
            closing.cancel()


def _heed_cancellation() -> None:
    """Raise a cancellation that came just as something else ended.

    Until Python 3.12 `wait_for`, which the libraries use, drops it then and returns the result.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _settled(future: Awaitable[object]) -> None:
    with suppress(*UNREACHABLE):
        await asyncio.shield(asyncio.ensure_future(future))


def user_of(url: str) -> str:
    """Return the broker user of a URL: the one that the broker validates as `user_id`."""
    return URL(url).user or "guest"


async def connect(url: str, *, name: str) -> FilteredConnection:
    """Return a plain connection; raises one of UNREACHABLE within CONNECT_TIMEOUT_S."""
    tolerate_undecodable_properties()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await aio_pika.connect(
                url,
                timeout=CONNECT_TIMEOUT_S,
                client_properties={"connection_name": f"ackledger-{name}"},
                connection_class=FilteredConnection,
            )
    except StopAsyncIteration as error:
        # The library's word for an address that closes in the middle of the handshake, as a load
        # balancer before a dead broker does.
        raise ConnectionResetError("the connection was lost in the handshake") from error


async def open_channel(connection: AbstractConnection) -> Channel:
    """Return a channel with confirms, on which an unroutable publish raises."""
    if connection.transport is None or connection.transport.connection.is_closed:
        # The library would raise a RuntimeError, which says nothing of the broker.
        raise ConnectionResetError("the connection is closed")
    channel = connection.channel(publisher_confirms=True, on_return_raises=True)
    await channel.initialize(timeout=CONNECT_TIMEOUT_S)
    return await channel.get_underlay_channel()


async def close(connection: AbstractConnection) -> None:
    """Close a connection that may be dead already, within CLOSE_TIMEOUT_S."""
    with suppress(*UNREACHABLE):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.close()
