"""Logs: structured events on standard error, JSON for machines, columns for people.

Every event, a library's too, passes the redactor, which hides credentials and clients' content and
bounds what is left. A traceback holds places in the code and no values.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson
import structlog
from yarl import URL

from runtime.service.settings import LogFormat, LogSettings

REDACTED: Final = "[redacted]"
CUT: Final = "[cut]"

STRING_CHARS_MAX: Final = 1_000
"""Of one string in a log event: a message of PostgreSQL's is a tenth of it."""
EVENT_CHARS_MAX: Final = 16_000
"""Of all strings of one event together, so of a log line: collectors split longer ones."""
SEARCHED_CHARS_MAX: Final = 4_000
"""Of a text that is searched at all: the worst that anybody can write costs some milliseconds."""
ITEMS_MAX: Final = 100
DEPTH_MAX: Final = 12
"""An exception's dictionaries are four deep, a group's four more for each group in a group."""
KNOWN_CHARS_MIN: Final = 8
"""A shorter password is too likely a word of our own; the patterns still find it in its URL."""

_NAME: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|token|credential|requirepass"
    r"|api[-_]?key|private[-_]?key)[\w-]{0,40}+"
)
# Between a name and its value: `: `, `=`, `": "`, `', b'` and the same escaped once more. Every
# repetition is bounded: a client must not be able to make a search quadratic.
_IS: Final = r"(?:\\{0,8}[\"']?\s{0,20}[:=]|\\{0,8}[\"']\s{0,20},)\s{0,20}"
_LINE_END: Final = r"(?:\\r|\\n|[\r\n])"

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # The whole header, with the lines that are folded under it.
    (
        re.compile(
            rf"(?i)((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{{0,30}}(?:key|token))({_IS})"
            rf"(?:(?!{_LINE_END}).|(?:\\r|\r)?(?:\\n|\n)[ \t])*+"
        ),
        rf"\1\2{REDACTED}",
    ),
    # Up to the last at sign: a password that should have been escaped may hold some.
    (re.compile(r"(://[^\s/:@]{0,200}):\S{0,1000}@"), rf"\1:{REDACTED}@"),
    (
        re.compile(r"(?i)\b(bearer|basic|digest)(?:\s|\\[rnt]){1,20}[^\s\"',;\\)\]}]+"),
        rf"\1 {REDACTED}",
    ),
    (
        re.compile(rf"(?i)({_NAME})({_IS})b?(?:(\\{{0,8}}[\"'])(?:\\.|(?!\3)[\s\S])*+|\S+)"),
        rf"\1\2{REDACTED}",
    ),
    # An API key, and an access token, wherever they stand.
    (re.compile(r"ack_[A-Za-z0-9_-]{16,}"), f"ack_{REDACTED}"),
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,300}+(?:\.[A-Za-z0-9_-]*)+"), REDACTED),
    # What clients sent, as the database and the models quote it.
    # (That of a deadlock names processes and locks, and is needed to end it.)
    (re.compile(r"(DETAIL:\s++(?!Process \d))[\s\S]*"), rf"\1{REDACTED}"),
    (re.compile(r"(invalid input for query argument \$\d+[^:]{0,80}: )[\s\S]*"), rf"\1{REDACTED}"),
    (
        re.compile(r"(\b(?:invalid input syntax|invalid value|value)\b[^\"]{0,80})\"[\s\S]*"),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(input_value=)[\s\S]*"), rf"\1{REDACTED}"),
)

# A text without any of these is passed on as it is: hardly any has one.
_MARKS: Final = (
    *("authorization", "cookie", "bearer", "basic", "digest", "://", "passw", "passphrase"),
    *("secret", "token", "credential", "requirepass", "apikey", "api_key", "api-key"),
    *("privatekey", "private_key", "private-key", "ack_", "eyj"),
    *("detail:", "invalid", "value", "x-"),
)

_HIDDEN_FIELD: Final = re.compile(
    rf"(?i)(?:proxy_)?authorization|(?:set_)?cookies?|\w*{_NAME}|(?:raw_)?headers?|body|payload"
    r"|description|metadata|query_args|locals"
)
"""Fields of events whose value is not looked at: there is no good reason to log one."""
_HARMLESS: Final = (int, float, type(None), UUID, date, timedelta)

Event: TypeAlias = Mapping[str, Any]


def redact(text: str, *, known: Iterable[str] = ()) -> str:
    """Return a text without credentials; `known` are passwords that go wherever they stand.

    Of a text beyond SEARCHED_CHARS_MAX only the beginning is returned.
    """
    text = _searched(text)
    for secret in known:
        text = text.replace(secret, REDACTED)
    if not _is_marked(text.lower()):
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _is_marked(lowered: str) -> bool:
    for mark in _MARKS:  # noqa: SIM110  # a generator takes twice the time, for each log line
        if mark in lowered:
            return True
    return False


def _searched(text: str) -> str:
    """Cut between words, so that no secret loses what it would be recognised by."""
    if len(text) <= SEARCHED_CHARS_MAX:
        return text
    head = text[:SEARCHED_CHARS_MAX]
    return f"{head[: max(head.rfind(' '), head.rfind(chr(10)), 0)]} {CUT}"


def escape(text: str) -> str:
    """Return a text on one line that steers no terminal and that UTF-8 can carry."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def passwords_of(urls: Iterable[str]) -> frozenset[str]:
    """Return the passwords in URLs, as they stand there and as they are sent.

    One that is a part of its URL's user, host or path is left to the patterns: it is a word that
    other texts hold.
    """
    found: set[str] = set()
    for text in urls:
        try:
            url = URL(text)
        except ValueError:
            continue
        rest = f"{url.user} {url.host} {url.path}"
        for password in (url.password, url.raw_password):
            if password and len(password) >= KNOWN_CHARS_MIN and password not in rest:
                found.add(password)
    return frozenset(found)


class Redactor:
    """A structlog processor: redacts and bounds every string of an event."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known` are passwords that are hidden wherever they stand."""
        # The longest first: another may be its beginning.
        self._known = tuple(sorted(known, key=len, reverse=True))

    def __call__(self, _: Any, __: str, event: Event) -> dict[str, Any]:
        """Return the event as it may be written."""
        budget = _Budget(self._known)
        return {name: budget.field(name, value, depth=0) for name, value in event.items()}


class _Budget:
    """What one event may still hold."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known
        self._left = EVENT_CHARS_MAX

    def field(self, name: object, value: Any, *, depth: int) -> Any:
        if isinstance(name, str) and _is_hidden(name):
            return REDACTED
        return self._value(value, depth=depth)

    def _value(self, value: Any, *, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, _HARMLESS):
            return value
        if depth >= DEPTH_MAX:
            return CUT
        if isinstance(value, Mapping):
            return self._mapping(value, depth=depth + 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            items = [self._value(one, depth=depth + 1) for one in list(value)[:ITEMS_MAX]]
            return items if len(value) <= ITEMS_MAX else [*items, CUT]
        return self._text(_shown(value))

    def _mapping(self, value: Mapping[Any, Any], *, depth: int) -> dict[str, Any]:
        return {
            self._text(str(name)): self.field(name, one, depth=depth)
            for name, one in list(value.items())[:ITEMS_MAX]
        }

    def _text(self, text: str) -> str:
        text = escape(redact(text, known=self._known))
        most = min(STRING_CHARS_MAX, self._left)
        if len(text) > most:
            text = f"{text[:most]}{CUT}"
        self._left = max(0, self._left - len(text))
        return text


@lru_cache(maxsize=1024)
def _is_hidden(name: str) -> bool:
    return _HIDDEN_FIELD.fullmatch(name.replace("-", "_")) is not None


def _shown(value: object, show: Callable[[object], str] = repr) -> str:
    try:
        return show(value)
    except Exception as error:  # noqa: BLE001  # a log line must not fail what it tells about
        return f"<{type(value).__name__}, not shown: {type(error).__name__}>"


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
