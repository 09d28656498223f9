"""A receiver of webhooks: a real HTTP server that answers as it is told."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from tests.support import PATIENCE_S


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        """The event, decoded."""
        return orjson.loads(self.body)

    @property
    def webhook_id(self) -> str:
        """What is the same for each attempt."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> None:
        """Raise unless it is signed with a secret, as the reference library has it."""
        Webhook(secret).verify(self.body, dict(self.headers))


@dataclass
class Receiver:
    """Answers by path: a status, or none for as long as it hangs."""

    url: str = ""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    _counts: Counter[str] = field(default_factory=Counter)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _received: defaultdict[str, "asyncio.Queue[Received]"] = field(
        default_factory=lambda: defaultdict(asyncio.Queue)
    )

    async def next(self, path: str, *, within_s: float = PATIENCE_S) -> Received:
        """Return the next request to a path; those to others wait for who asks for them."""
        async with asyncio.timeout(within_s):
            return await self._received[path].get()

    def count(self, path: str) -> int:
        """How many requests came to a path."""
        return self._counts[path]

    def release(self) -> None:
        """Answer what hangs, and hang no more."""
        self.hanging.clear()
        self._released.set()

    async def handle(self, request: web.Request) -> web.Response:
        """Take a request."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._counts[request.path] += 1
        self._received[request.path].put_nowait(Received(request.path, headers, body))
        if request.path in self.hanging:
            await self._released.wait()
        statuses = self.statuses.get(request.path)
        return web.Response(status=statuses.pop(0) if statuses else 204)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """Serve on a free port as long as the block lasts."""
        receiver = cls()
        app = web.Application()
        app.router.add_post("/{path:.*}", receiver.handle)
        async with TestServer(app) as server:
            receiver.url = str(server.make_url("")).rstrip("/")
            yield receiver
            receiver.release()
