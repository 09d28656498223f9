"""The life of a process: start, run every loop until a signal or a failure, drain, stop."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import structlog
import uvloop

from runtime.logs import configure_logging
from runtime.settings import ConfigurationError, ServiceSettings, load_settings

log = structlog.get_logger()

Settings = TypeVar("Settings", bound=ServiceSettings)


class Loop(Protocol):
    """A background loop: runs until it is cancelled."""

    async def run(self) -> None:
        """Work until cancelled."""


class Service:
    """A process made of loops. On SIGTERM or SIGINT it drains, then stops them.

    A loop that ends or fails ends the whole process: a supervisor starts it anew, and nothing runs
    on in halves.
    """

    def __init__(self, name: str, *, shutdown_timeout_s: float) -> None:
        self._name = name
        self._shutdown_timeout_s = shutdown_timeout_s
        self._loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = []
        self._drains: list[Callable[[], Awaitable[None]]] = []
        self._closes: list[Callable[[], Awaitable[None]]] = []

    def add_loop(self, name: str, loop: Loop) -> None:
        """Run this loop as long as the process lives."""
        self._loops.append((name, loop.run))

    def add_drain(self, drain: Callable[[], Awaitable[None]]) -> None:
        """On a signal: stop taking, finish what is in hand; in the order of adding."""
        self._drains.append(drain)

    def add_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """After the loops have stopped: give back connections; in the reverse order."""
        self._closes.append(close)

    async def run(self) -> None:
        """Run until a signal or a failure; raises what a loop raised."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        tasks = {asyncio.create_task(run(), name=name): name for name, run in self._loops}
        waiter = asyncio.create_task(stopping.wait())
        log.info("service_started")
        try:
            done, _ = await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in tasks if task in done]
            if not failed:
                log.info("service_draining")
                await self._drain()
            for task in failed:
                log.error("loop_ended", loop=tasks[task])
                task.result()
        finally:
            waiter.cancel()
            await self._stop(list(tasks))
        log.info("service_stopped")

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._shutdown_timeout_s):
                for drain in self._drains:
                    await drain()
        except TimeoutError:
            log.warning("drain_timed_out", after_s=self._shutdown_timeout_s)

    async def _stop(self, tasks: list["asyncio.Task[None]"]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in reversed(self._closes):
            await close()


def run_process(
    kind: type[Settings],
    serve: Callable[[Settings], Coroutine[Any, Any, None]],
    *,
    name: str,
    environment: Mapping[str, str],
) -> int:
    """Run a process on uvloop until it ends; return its exit code (2: wrong configuration)."""
    try:
        settings = load_settings(kind, environment)
        configure_logging(settings, service=name)
        uvloop.run(serve(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"ackledger: {error}\n")
        return 2
    return 0
