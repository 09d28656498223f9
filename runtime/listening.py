"""Listening on a port, with a sentence instead of a traceback where it is taken."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aiohttp import web

from runtime.settings import ConfigurationError

BACKLOG_MAX: Final = 1024
"""Connections that wait to be taken up: a crowd that comes at once is not turned away."""

Listening = TypeVar("Listening")


async def listen(runner: web.AppRunner, *, host: str, port: int) -> None:
    """Serve a set-up runner on a port; raises ConfigurationError when the port cannot be had."""
    await _listening(web.TCPSite(runner, host, port).start(), host=host, port=port)


async def listen_shared(
    make_protocol: Callable[[], asyncio.Protocol], *, host: str, port: int
) -> asyncio.Server:
    """Serve a port that several processes may share: the kernel spreads the connections.

    Raises ConfigurationError when the port cannot be had.
    """
    server = asyncio.get_running_loop().create_server(
        make_protocol, host, port, reuse_port=True, backlog=BACKLOG_MAX
    )
    return await _listening(server, host=host, port=port)


async def _listening(start: Awaitable[Listening], *, host: str, port: int) -> Listening:
    try:
        return await start
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); "
            "set ACKLEDGER_HTTP_PORT or ACKLEDGER_STATUS_PORT to another port"
        ) from error
