"""The ingress's API, as a page calls it for the person who looks at it.

The console holds no rights of its own: what a person may see and do is decided there.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web

from contracts.representations.people import AGENT_MAX

TIMEOUT_S: Final = 20.0
"""Longer than a page waits for a transaction's end."""
ANSWER_OCTETS_MAX: Final = 8 * 1024 * 1024
CONNECTIONS_MAX: Final = 100
EVENTS_QUIET_S: Final = 60.0
"""After so long without a heartbeat a stream of events is given up; they come every 15 s."""
HOPS_MAX: Final = 20
"""Of X-Forwarded-For: the API reads no more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said."""

    status: int
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 400  # noqa: PLR2004, as HTTP has it

    @property
    def is_unsure(self) -> bool:
        """Whether it may have been done although no answer says so."""
        return self.status >= 500  # noqa: PLR2004, as HTTP has it

    @property
    def code(self) -> str:
        """The code of a problem."""
        return str(self.json.get("code", "")) if isinstance(self.json, dict) else ""

    @property
    def trouble(self) -> str:
        """What is wrong, in a sentence for people."""
        if not isinstance(self.json, dict):
            return "the service cannot be reached; try again in a moment"
        return f"{self.json.get('title', 'It did not work')}: {self.json.get('detail', '')}"


UNREACHABLE: Final = Answer(503)


class ApiError(Exception):
    """The API refused what a page rests on; the page becomes one that says so."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.trouble)
        self.answer = answer


def passed_on(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers that tell the API whose browser asks: its address, and its program.

    As at every proxy the chain grows by our peer; the API believes what its trusted proxies wrote.
    """
    transport = request.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    said = ",".join(request.headers.getall("X-Forwarded-For", ()))
    hops = [hop.strip() for hop in said.split(",") if hop.strip()]
    if isinstance(peer, tuple):
        hops.append(str(peer[0]))
    headers = {
        "X-Forwarded-For": ", ".join(hops[-HOPS_MAX:]),
        "User-Agent": request.headers.get("User-Agent", "")[:AGENT_MAX],
    }
    # Browsers may send octets that no header of ours can have.
    return {name: text.encode("ascii", "replace").decode() for name, text in headers.items()}


class Api:
    """Calls the API; connections are kept for the next."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._streaming: aiohttp.ClientSession | None = None
        """Streams have no end, and are counted elsewhere."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer; UNREACHABLE where there is none, or one beyond ANSWER_OCTETS_MAX."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if json is not None:
            sent["Content-Type"] = "application/json"
        if method == "POST":
            sent.setdefault("Idempotency-Key", uuid4().hex)
        body = None if json is None else orjson.dumps(json)
        try:
            async with self._opened().request(
                method, self._url + path, data=body, params=query, headers=sent
            ) as response:
                content = await _whole(response)
                return Answer(response.status, _decoded(content), dict(response.headers))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return UNREACHABLE

    @asynccontextmanager
    async def following(
        self, *, token: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse | None]:
        """Give the stream of events that somebody may have; None where the API has none now."""
        if self._streaming is None:
            self._streaming = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=EVENTS_QUIET_S),
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        sent = {**headers, "Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        try:
            response = await self._streaming.get(
                f"{self._url}/v1/events", params=query, headers=sent
            )
        except (aiohttp.ClientError, TimeoutError, OSError):
            yield None
            return
        try:
            yield response if response.status == 200 else None  # noqa: PLR2004, as HTTP has it
        finally:
            response.close()

    async def is_ready(self) -> bool:
        """Whether the API answers that it is."""
        return (await self.call("GET", "/readyz")).status == 200  # noqa: PLR2004, ready

    async def close(self) -> None:
        """Close the connections."""
        for session in (self._session, self._streaming):
            if session is not None:
                await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Return a body; raises ClientPayloadError where it is too large."""
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > ANSWER_OCTETS_MAX:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(content)


def _decoded(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
