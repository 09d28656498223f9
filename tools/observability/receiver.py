"""A receiver of Alertmanager's notifications, of our own webhooks, and of spans."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from aiohttp import web

from tools.stack.ports import HOST

OCTETS_MAX: Final = 4 * 1024 * 1024
"""Of a request: as OTLP receivers have it."""


class Receiver:
    """Keeps which alerts it was told of, and how many events came; spans it drops."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.events = 0
        self._told: set[tuple[str, str]] = set()
        self._changed = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int) -> AsyncIterator[Self]:
        """Listen as long as the block lasts."""
        receiver = cls(port)
        app = web.Application(client_max_size=OCTETS_MAX)
        app.router.add_post("/alerts", receiver._take_alerts)
        app.router.add_post("/events", receiver._take_event)
        app.router.add_post("/v1/traces", receiver._take_spans)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
            yield receiver
        finally:
            await runner.cleanup()

    async def is_told(self, alert: str, status: str, *, within_s: float) -> bool:
        """Whether it is told, within a time, that an alert is `firing` or `resolved`."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: (alert, status) in self._told)
        except TimeoutError:
            return False
        return True

    async def _take_alerts(self, request: web.Request) -> web.Response:
        body = await request.json()
        async with self._changed:
            self._told |= {(one["labels"]["alertname"], one["status"]) for one in body["alerts"]}
            self._changed.notify_all()
        return web.Response()

    async def _take_spans(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    async def _take_event(self, _: web.Request) -> web.Response:
        self.events += 1
        return web.Response(status=204)
