"""What the processes share that serve by aiohttp: the ingress and the console.

The others do not import it: that takes a quarter of their start.
"""

import logging
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from runtime.service.malformed import note_malformed
from runtime.service.status_server import listening

_CLIENTS: Final = (
    HttpProcessingError,
    PayloadEncodingError,
    web.RequestPayloadError,
    ConnectionError,
)
"""What aiohttp raises for what a client sent, or did not send to its end."""


class MalformedRequests(logging.Filter):
    """On aiohttp's server log: takes out what clients caused, and lets our own errors through."""

    def install(self) -> None:
        """See all that aiohttp says: some of what is no HTTP it calls a debug message."""
        server_log = logging.getLogger("aiohttp.server")
        server_log.setLevel(logging.DEBUG)
        server_log.filters = [self]

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged as it is."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, _CLIENTS):
            note_malformed(error)
            return False
        return record.levelno >= logging.WARNING


async def listen(runner: web.AppRunner, *, host: str, port: int) -> None:
    """Serve a set-up runner on a port; raises ConfigurationError when the port cannot be had."""
    await listening(web.TCPSite(runner, host, port).start(), host=host, port=port)
