"""Server-sent events as a client reads them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson

from tests.integration.ingress.document import CheckedApi
from tests.support import PATIENCE_S

TRANSACTION_EVENT_FIELDS: Final = {"event_id", "event_type", "occurred_at", "wallets"}


@dataclass(frozen=True)
class Sent:
    """One event, or a comment, as it was sent."""

    fields: Mapping[str, str]

    @property
    def type(self) -> str:
        """What `event:` says."""
        return self.fields.get("event", "")

    @property
    def id(self) -> str:
        """What `id:` says."""
        return self.fields["id"]

    @property
    def is_comment(self) -> bool:
        """Whether it is a heartbeat."""
        return "" in self.fields

    @property
    def data(self) -> Any:
        """The event itself."""
        return orjson.loads(self.fields["data"])


class EventStream:
    """An answer without an end."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self, *, within_s: float = PATIENCE_S) -> Sent:
        """Return the next block; raises EOFError at the end of the answer."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(within_s):
            while line := (await self.response.content.readline()).decode():
                if line == "\n" and fields:
                    return Sent(fields)
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value
        raise EOFError

    async def next_event(self, *, within_s: float = PATIENCE_S) -> Sent:
        """Return the next event, heartbeats and the like left out."""
        while True:
            sent = await self.next(within_s=within_s)
            if sent.type:
                return sent

    async def ended(self, *, within_s: float = PATIENCE_S) -> bool:
        """Whether the answer ends within the bound, whatever comes before."""
        try:
            while True:
                await self.next(within_s=within_s)
        except EOFError:
            return True
        except TimeoutError:
            return False


@asynccontextmanager
async def following(
    api: CheckedApi, query: str = "", *, last_event_id: str | None = None
) -> AsyncIterator[EventStream]:
    """Follow events; the head of the answer has come."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    async with (
        aiohttp.ClientSession(headers=api.headers) as session,
        session.get(f"{api.url}/v1/events{query}", headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        assert response.headers["X-Request-Id"]
        assert response.headers["Cache-Control"] == "no-store"
        yield EventStream(response)
