"""What clients send that is no HTTP: a debug event and a counter, never an error."""

import time
from typing import Final

import structlog
from prometheus_client import Counter

LINES_PER_S_MAX: Final = 10
"""Of what clients can cause as often as they like: enough to see what it is."""

MALFORMED: Final = Counter(
    "ackledger_http_malformed_requests", "Requests that are no HTTP, on any port of the process"
)

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
