"""The status port that each process has: /metrics, /healthz and /readyz."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import orjson
from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CHECK_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class DependencyState:
    """How a dependency answered: 'degraded' means that the service works without it."""

    state: Literal["up", "degraded", "down"]
    detail: str = ""


Check = Callable[[], Awaitable[DependencyState]]


class Readiness:
    """The dependencies of a process, each with a check of its own."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)

    async def read(self) -> tuple[bool, dict[str, DependencyState]]:
        """Return whether the process is ready, and each dependency's state."""
        states = await asyncio.gather(*(_bounded(check) for check in self._checks.values()))
        named = dict(zip(self._checks, states, strict=True))
        return all(state.state != "down" for state in states), named


async def _bounded(check: Check) -> DependencyState:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is 'down'
        return DependencyState("down", type(error).__name__)


def render_readiness(*, is_ready: bool, states: Mapping[str, DependencyState]) -> web.Response:
    """Return 200 or 503 with each dependency's state."""
    body = {
        "status": "ready" if is_ready else "not_ready",
        "dependencies": {
            name: {"state": state.state, "detail": state.detail} for name, state in states.items()
        },
    }
    return web.Response(
        body=orjson.dumps(body),
        status=200 if is_ready else 503,
        content_type="application/json",
    )


class StatusServer:
    """Serves /metrics, /healthz and /readyz on a port of the process's own."""

    def __init__(self, readiness: Readiness, *, host: str, port: int) -> None:
        self._readiness = readiness
        self._host = host
        self._port = port

    async def run(self) -> None:
        """Serve until cancelled."""
        app = web.Application()
        app.router.add_get("/metrics", _read_metrics)
        app.router.add_get("/healthz", _read_liveness)
        app.router.add_get("/readyz", self._read_readiness)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _read_readiness(self, _: web.Request) -> web.Response:
        is_ready, states = await self._readiness.read()
        return render_readiness(is_ready=is_ready, states=states)


async def _read_metrics(_: web.Request) -> web.Response:
    return web.Response(
        body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


async def _read_liveness(_: web.Request) -> web.Response:
    return web.Response(body=b'{"status":"live"}', content_type="application/json")
