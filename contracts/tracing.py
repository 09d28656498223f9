"""Names of requests: which are believed, and the trace id inside a W3C traceparent."""

import re
from typing import Final

_TRACEPARENT: Final = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def valid_traceparent(value: object) -> str | None:
    """Return a traceparent header if it is one, else None."""
    if not isinstance(value, str):
        return None
    match = _TRACEPARENT.fullmatch(value)
    if match is None or not int(match["trace"], 16) or not int(match["span"], 16):
        return None
    return value


def trace_id_of(traceparent: str) -> str:
    """Return the 32 hex digits that name the trace of a valid traceparent."""
    return traceparent[3:35]


def valid_request_id(value: object) -> str | None:
    """Return a client's own request id if it is sane, else None."""
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else None
