"""A link to the broker outlives a connection that is lost while it is still being made."""

import asyncio
from contextlib import suppress

import pytest
from aio_pika.abc import AbstractConnection

from runtime.amqp.connection import (
    UNREACHABLE,
    BrokerLink,
    Channel,
    close,
    connect,
    loss_as_error,
    open_channel,
)
from tests.support import eventually
from tools.chaos.proxy import Proxy


async def test_a_channel_on_a_connection_that_is_gone_fails_as_an_unreachable_broker(
    vhost_url: str,
) -> None:
    async with Proxy.to(vhost_url) as proxy:
        connection = await connect(proxy.through(vhost_url), name="test")
        proxy.cut()
        await eventually(lambda: _is_gone(connection), what="the library has noticed")
        try:
            with pytest.raises(UNREACHABLE):
                await open_channel(connection)
        finally:
            await close(connection)


async def test_the_library_s_bare_exception_for_a_lost_connection_is_an_unreachable_broker() -> (
    None
):
    """What it throws into a call that it cancels itself when the connection ends in silence."""
    with pytest.raises(UNREACHABLE), loss_as_error():
        raise Exception from asyncio.CancelledError()  # noqa: TRY002  # exactly the library's


async def test_no_other_exception_is_taken_for_a_lost_connection() -> None:
    with pytest.raises(ZeroDivisionError), loss_as_error():
        raise ZeroDivisionError from asyncio.CancelledError()
    with pytest.raises(Exception, match="mine"), loss_as_error():
        raise Exception("mine")  # noqa: TRY002  # what must pass through


async def test_a_link_ends_though_its_cancellation_was_swallowed_while_it_opened(
    vhost_url: str,
) -> None:
    """As `wait_for` does until Python 3.12, which the library opens a connection with."""

    async def opened(_: Channel) -> None:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    link = BrokerLink(vhost_url, name="test", opened=opened, lost=lambda: None)
    running = asyncio.ensure_future(link.run())

    await asyncio.wait({running}, timeout=10)

    assert running.cancelled()


async def _is_gone(connection: AbstractConnection) -> bool:
    transport = connection.transport
    return transport is None or transport.connection.is_closed
