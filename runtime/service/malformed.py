"""What clients send that is no HTTP: a debug event and a counter, never an error."""

import logging
import time
from typing import Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError
from aiohttp.web import RequestPayloadError
from prometheus_client import Counter

LINES_PER_S_MAX: Final = 10
"""Of what clients can cause as often as they like: enough to see what it is."""

MALFORMED: Final = Counter(
    "ackledger_http_malformed_requests", "Requests that are no HTTP, on any port of the process"
)

_CLIENTS: Final = (HttpProcessingError, PayloadEncodingError, RequestPayloadError, ConnectionError)
"""What aiohttp raises for what a client sent, or did not send to its end."""

log = structlog.get_logger()


class LineBound:
    """Lets a few lines of one kind through each second, and counts the others."""

    def __init__(self, *, per_s: int = LINES_PER_S_MAX) -> None:
        self._per_s = per_s
        self._second = 0
        self._written = 0
        self._left_out = 0

    def take(self) -> int | None:
        """Return how many were left out since the last line; None where this one is, too."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= self._per_s:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


_bound: Final = LineBound()


def note_malformed(error: BaseException) -> None:
    """Count a malformed request, and tell whoever debugs; its text is not repeated."""
    MALFORMED.inc()
    left_out = _bound.take()
    if left_out is not None:
        log.debug("malformed_request", kind=type(error).__name__, left_out=left_out)


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
