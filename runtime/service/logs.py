"""Logs: structured events on standard error, JSON for machines, columns for people.

Every event, a library's too, passes the redactor (runtime/service/redaction.py). A traceback holds
places in the code and no values.
"""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError
from aiohttp.web import RequestPayloadError
from prometheus_client import Counter

from runtime.service.redaction import Redactor, passwords_of
from runtime.service.settings import LogFormat, LogSettings

TRACEBACK_FRAMES_MAX: Final = 30
"""The outermost and the innermost halves: aiohttp, a call of ours and asyncpg are twenty."""

_PLACES: Final = structlog.tracebacks.ExceptionDictTransformer(
    show_locals=False, max_frames=TRACEBACK_FRAMES_MAX
)
"""A traceback as data: files, lines and functions. With values it would hold requests' heads."""


def configure_logging(settings: LogSettings, *, service: str) -> None:
    """Send every event of this process to standard error with its time, level and service."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[structlog.typing.Processor] = [
        structlog.processors.ExceptionRenderer(_PLACES),
        Redactor(passwords_of(_urls_of(settings))),
    ]
    if settings.log_format is LogFormat.JSON:
        renderers += [structlog.processors.JSONRenderer(serializer=_to_json)]
    else:
        renderers += [_traceback_as_text, _console()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    _adopt_library_logs(level, shared, renderers)


def traceback_of(error: BaseException) -> str:
    """Return an error with its places in the code, redacted, as a command prints it."""
    exceptions = _PLACES((type(error), error, error.__traceback__))
    redacted = Redactor()(None, "", {"exception": exceptions})["exception"]
    return "\n".join(_lines_of(redacted))


def _urls_of(settings: LogSettings) -> list[str]:
    """The URLs that the process was given: their passwords are hidden wherever they stand."""
    values = settings.model_dump()
    return [value for name, value in values.items() if name.endswith("_url") and value]


def _adopt_library_logs(
    level: int,
    shared: list[structlog.typing.Processor],
    renderers: list[structlog.typing.Processor],
) -> None:
    """Libraries log through `logging`: the same stream and the same form serve them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # Both tell of every lost connection with a traceback; our own loops tell it in one event.
    for name in ("aio_pika", "aiormq"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    MalformedRequests().install()


def _console() -> structlog.dev.ConsoleRenderer:
    # The formatter sees no traceback, but a fancy one would have it said that it should.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _traceback_as_text(
    _: Any, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """For people: the redacted exceptions as Python shows them, the innermost first."""
    if isinstance(event.get("exception"), list):
        event["exception"] = "\n".join(_lines_of(event["exception"]))
    return event


def _lines_of(exceptions: Sequence[Any]) -> Iterator[str]:
    for one in reversed(exceptions):
        if not isinstance(one, dict):  # pragma: no cover  # the mark of a chain that was cut
            continue
        for frame in one["frames"]:
            yield f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
        yield f"{one['exc_type']}: {one['exc_value']}"
        for group in one.get("exceptions", ()):
            yield from (f"  | {line}" for line in _lines_of(group))


def _to_json(event: Any, **options: Any) -> str:
    return orjson.dumps(event, default=options.get("default")).decode()


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
