"""The status port of each process (/metrics, /healthz, /readyz), and listening on ports."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, TypeVar

import orjson
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from runtime.service.settings import ConfigurationError
from runtime.service.status_http import StatusAnswer, StatusConnections

CHECK_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class DependencyState:
    """How a dependency answered, and whether the process is of any use without it."""

    is_up: bool
    detail: str | None = None
    is_needed: bool = True

    @classmethod
    def of(cls, *, is_up: bool, trouble: str) -> "DependencyState":
        """Return a state whose detail is told only where there is trouble."""
        return cls(is_up=is_up, detail=None if is_up else trouble)


Check = Callable[[], Awaitable[DependencyState]]


class Readiness:
    """The dependencies of a process, each with a check of its own."""

    def __init__(self, checks: Mapping[str, Check], *, optional: Collection[str] = ()) -> None:
        """`optional` names those without which the process still does its work, if less of it."""
        self._checks = dict(checks)
        self._optional = frozenset(optional)
        self._reading: asyncio.Task[dict[str, DependencyState]] | None = None

    async def read(self) -> dict[str, DependencyState]:
        """Return each dependency's state, within CHECK_TIMEOUT_S.

        Whoever asks while it is looked up gets the same answer: nobody needs a key to ask, and a
        crowd of checks would take the connections that they are to tell of.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._forget)
        return await asyncio.shield(self._reading)

    def _forget(self, _: object) -> None:
        self._reading = None

    async def _read(self) -> dict[str, DependencyState]:
        states = await asyncio.gather(*(_bounded(check) for check in self._checks.values()))
        return {
            name: replace(state, is_needed=name not in self._optional)
            for name, state in zip(self._checks, states, strict=True)
        }


async def _bounded(check: Check) -> DependencyState:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except Exception as error:  # noqa: BLE001  # whatever it is, the answer is 'down'
        return DependencyState(is_up=False, detail=type(error).__name__)


def answer_readiness(states: Mapping[str, DependencyState]) -> StatusAnswer:
    """Return 200 (ready or degraded) or 503, with each dependency's state."""
    down = [state for state in states.values() if not state.is_up]
    is_ready = not any(state.is_needed for state in down)
    status = "not_ready" if not is_ready else "degraded" if down else "ready"
    dependencies = {
        name: {"state": "up" if state.is_up else "down", "detail": state.detail}
        for name, state in states.items()
    }
    return StatusAnswer(
        HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
        "application/json",
        orjson.dumps({"status": status, "dependencies": dependencies}),
    )


class StatusServer:
    """Serves /metrics, /healthz and /readyz on a port of the process's own."""

    def __init__(self, readiness: Readiness, *, host: str, port: int) -> None:
        self._readiness = readiness
        self._host = host
        self._port = port

    async def run(self) -> None:
        """Serve until cancelled; raises ConfigurationError when the port cannot be had."""
        connections = StatusConnections(
            {
                "/metrics": _read_metrics,
                "/healthz": _read_liveness,
                "/readyz": self._read_readiness,
            }
        )
        start = asyncio.get_running_loop().create_server(
            connections, self._host, self._port, reuse_address=True, backlog=BACKLOG_MAX
        )
        server = await listening(start, host=self._host, port=self._port)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            await connections.close()

    async def _read_readiness(self, _: Mapping[str, str]) -> StatusAnswer:
        return answer_readiness(await self._readiness.read())


async def _read_metrics(headers: Mapping[str, str]) -> StatusAnswer:
    """Answer in the format that is asked for: exemplars are in OpenMetrics alone."""
    write, content_type = choose_encoder(headers.get("accept", ""))
    return StatusAnswer(HTTPStatus.OK, content_type, write(REGISTRY))


async def _read_liveness(_: Mapping[str, str]) -> StatusAnswer:
    return StatusAnswer(HTTPStatus.OK, "application/json", b'{"status":"live"}')


BACKLOG_MAX: Final = 1024
"""Connections that wait to be taken up: a crowd that comes at once is not turned away."""

Listening = TypeVar("Listening")


async def listen_shared(
    make_protocol: Callable[[], asyncio.Protocol], *, host: str, port: int
) -> asyncio.Server:
    """Serve a port that several processes may share: the kernel spreads the connections.

    Raises ConfigurationError when the port cannot be had.
    """
    server = asyncio.get_running_loop().create_server(
        make_protocol, host, port, reuse_port=True, backlog=BACKLOG_MAX
    )
    return await listening(server, host=host, port=port)


async def listening(start: Awaitable[Listening], *, host: str, port: int) -> Listening:
    """Return what `start` comes to; raises ConfigurationError when the port cannot be had."""
    try:
        return await start
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); "
            "set ACKLEDGER_HTTP_PORT or ACKLEDGER_STATUS_PORT to another port"
        ) from error


def check_broker(is_up: Callable[[], bool]) -> Check:
    """Return a check of our own connections."""

    async def check() -> DependencyState:
        return DependencyState.of(is_up=is_up(), trouble="not connected")

    return check


def check_circuit(is_open: Callable[[], bool]) -> Check:
    """Return a check of a circuit: open means that no work is taken."""

    async def check() -> DependencyState:
        return DependencyState.of(is_up=not is_open(), trouble="circuit open")

    return check
