"""One session of HTTP: answers as values, and what passes by itself tried again."""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import orjson
from multidict import CIMultiDictProxy
from pydantic import BaseModel, ValidationError
from yarl import URL

from ackledger.client.errors import (
    ProblemError,
    UnexpectedAnswerError,
    UnreachableError,
    problem_error,
)
from runtime.resilience.reasons import reason_of
from runtime.service.periodic import Backoff

Json = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)

PASSING: Final = frozenset({429, 502, 503, 504})
"""Statuses that say 'later': the same request under the same key is sent again."""

REQUEST_TIMEOUT_S: Final = 60.0
"""Longer than the longest `Prefer: wait`, and than the answer to a full batch on a busy machine."""
GIVE_UP_AFTER_S: Final = 60.0
FIRST_CONTACT_S: Final = 5.0
"""A service that has not answered yet is given less time: the address may be wrong."""
HEARTBEATS_MISSED_S: Final = 45.0
"""Three heartbeats of events: after a silence of so long the connection is made again."""
CALL_MOST_S: Final = 600.0
"""No call takes longer with all its tries, however well the others of its session fare."""
_RETRY_AFTER_MOST_S: Final = 30.0
LOST: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, OSError)
_JSON: Final = "application/json"
_KEY: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered: the status, the decoded body, the headers."""

    status: int
    body: Any
    headers: CIMultiDictProxy[str]

    @property
    def is_replay(self) -> bool:
        """Whether the request had been made before under this key."""
        return self.headers.get("Idempotency-Replayed", "").lower() == "true"

    @property
    def problem(self) -> ProblemError | None:
        """The error that the answer is; None when it is none."""
        if self.status < HTTPStatus.MULTIPLE_CHOICES:
            return None
        return problem_error(
            self.status,
            self.body,
            request_id=self.headers.get("X-Request-Id"),
            retry_after_s=retry_after_s(self),
        )

    def wanted(self) -> Any:
        """Return the decoded body; raises ProblemError for a problem."""
        if (problem := self.problem) is not None:
            raise problem
        return self.body


class ApiSession:
    """Calls of the HTTP door. Every POST carries a key, so trying again is safe.

    A connection loss, 429 and 502 to 504 are tried again, after what `Retry-After` asks for, until
    `give_up_after_s` without any success of this session. The connections are opened with the
    first call and are those of one event loop.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        connections: int = 16,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`url` such as https://ledger.example, `connections` the most at one time.

        `tls` is for a certificate that an authority of your own has signed.
        """
        self._url = _checked_url(url)
        self._headers = {"Authorization": f"Bearer {_checked_key(api_key)}"}
        self._connections = connections
        self._give_up_after_s = give_up_after_s
        self._tls = tls
        self._last_success = 0.0
        self._session: aiohttp.ClientSession | None = None
        self.retries = 0

    def __repr__(self) -> str:
        """Name the service, never the key."""
        return f"{type(self).__name__}({self._url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to any call of the API, a problem included.

        `data` sends bytes as they are instead of `body`. Raises UnreachableError where there was
        no answer to any try.
        """
        sent = {"Accept": _JSON, **(headers or {})}
        content = data if body is None else orjson.dumps(body)
        if content is not None:
            sent.setdefault("Content-Type", _JSON)
        backoff = Backoff(first_s=0.1, most_s=5.0)
        started = time.monotonic()
        while True:
            outcome = await self._try(method, path, content, sent, parameters)
            if isinstance(outcome, Answer) and outcome.status not in PASSING:
                self._last_success = time.monotonic()
                return outcome
            if self._is_over(started):
                return self._last_of(outcome, path)
            self.retries += 1
            await asyncio.sleep(max(backoff.next_delay_s(), retry_after_s(outcome)))

    def _last_of(self, outcome: Answer | Exception, path: str) -> Answer:
        """Return the answer to the last try; raises UnreachableError where there was none."""
        if isinstance(outcome, Answer):
            return outcome
        raise UnreachableError(f"{self._url}{path}: {reason_of(outcome)}") from outcome

    def _is_over(self, started: float) -> bool:
        """Whether a call that began then is not to be tried any more."""
        now = time.monotonic()
        # What others of this session achieve meanwhile counts: the door is slow, not gone.
        since = max(self._last_success, started)
        return now - since >= self._patience_s or now - started >= CALL_MOST_S

    @property
    def _patience_s(self) -> float:
        if self._last_success:
            return self._give_up_after_s
        return min(FIRST_CONTACT_S, self._give_up_after_s)

    async def _try(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        parameters: Mapping[str, str] | None,
    ) -> Answer | Exception:
        """Return the answer if there is one, else why there is none."""
        try:
            async with self._opened().request(
                method,
                self._url + path,
                data=content,
                headers=headers,
                params=parameters,
                # The key goes to the address that it was given for, and to no other.
                allow_redirects=False,
            ) as response:
                raw = await response.read()
                return Answer(response.status, _decoded(raw), response.headers)
        except LOST as error:
            return error

    @asynccontextmanager
    async def events_from(
        self, query: Mapping[str, str], position: str | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open one answer of server-sent events; raises ProblemError, and one of LOST."""
        headers = {"Accept": "text/event-stream"}
        if position is not None:
            headers["Last-Event-ID"] = position
        async with self._opened().get(
            f"{self._url}/v1/events",
            params=query,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=HEARTBEATS_MISSED_S),
            allow_redirects=False,
        ) as response:
            if response.status != HTTPStatus.OK:
                raw = await response.read()
                Answer(response.status, _decoded(raw), response.headers).wanted()
                raise ConnectionError(f"HTTP {response.status} is no stream of events")
            yield response.content.iter_any()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._tls or True),
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def read_as(model: type[Model], body: Any) -> Model:
    """Return a decoded body as a model; raises UnexpectedAnswerError."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise UnexpectedAnswerError(f"the answer is no {model.__name__}") from error


def retry_after_s(outcome: Answer | Exception) -> float:
    """Return how many seconds the service asks to wait: as such, or until a date; bounded."""
    text = outcome.headers.get("Retry-After", "") if isinstance(outcome, Answer) else ""
    if re.fullmatch(r"[0-9]{1,6}", text):
        return min(float(text), _RETRY_AFTER_MOST_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    ahead = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)
    return min(max(ahead.total_seconds(), 0.0), _RETRY_AFTER_MOST_S)


def _decoded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")


def _checked_url(text: str) -> str:
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("expected a URL such as https://ledger.example")
    if url.user is not None or url.password is not None:
        raise ValueError("the URL names a user or a password: the API key is given by itself")
    return text.rstrip("/")


def _checked_key(api_key: str) -> str:
    # The HTTP library would show a key with a line break in its error.
    if not _KEY.fullmatch(api_key):
        raise ValueError("an API key is visible ASCII characters")
    return api_key
