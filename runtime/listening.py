"""Listening on a port, with a sentence instead of a traceback where it is taken."""

from aiohttp import web

from runtime.settings import ConfigurationError


async def listen(runner: web.AppRunner, *, host: str, port: int, is_shared: bool = False) -> None:
    """Serve a set-up runner on a port; several processes may share one.

    Raises ConfigurationError when the port cannot be had.
    """
    try:
        await web.TCPSite(runner, host, port, reuse_port=is_shared).start()
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); "
            "set ACKLEDGER_HTTP_PORT or ACKLEDGER_STATUS_PORT to another port"
        ) from error
