"""The life of a process: start, run every loop until a signal or a failure, drain, stop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import FrameType
from typing import Any, Final, NoReturn, Protocol, TypeVar

import structlog
import uvloop

from runtime.service.logs import configure_logging, redact
from runtime.service.measures import SelfMeasures
from runtime.service.settings import ConfigurationError, ProcessSettings, load_settings

CANCELLATION_S: Final = 1.0
CANCELLATIONS_MAX: Final = 5
"""Under a silent server asyncpg may turn a cancellation into a timeout, which a loop survives."""
CLOSE_TIMEOUT_S: Final = 3.0
"""For each close: a server that does not answer must not keep a process that is to end."""

GARBAGE_THRESHOLDS: Final = (100_000, 50, 100)
"""Objects between collections, and how often the older generations join in.

A batch is thousands of objects that live until its commit; with the default of 700 the collector
walks them again and again, a fifth of the posting's time. Reference counts free nearly all.
"""

_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()

Settings = TypeVar("Settings", bound=ProcessSettings)


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
        self._loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("measures", SelfMeasures().run)
        ]
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
        for number in _ENDING:
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
        await _cancel(tasks)
        for close in reversed(self._closes):
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await close()
            except TimeoutError:
                log.warning("close_timed_out", after_s=CLOSE_TIMEOUT_S)


async def _cancel(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """End these tasks. A cancellation may get lost in a library, so it is repeated."""
    pending = {task for task in tasks if not task.done()}
    for _ in range(CANCELLATIONS_MAX):
        if not pending:
            return
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=CANCELLATION_S)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.info("loop_ended_while_stopping", error=repr(error))
    if pending:
        log.warning("loops_not_ended", count=len(pending))


def run_process(
    kind: type[Settings],
    serve: Callable[[Settings], Coroutine[Any, Any, None]],
    *,
    name: str,
    environment: Mapping[str, str],
) -> int:
    """Run a process on uvloop until it ends; return its exit code (2: wrong configuration).

    Asked to stop while it still starts, it ends with 0 too: nothing is in hand then.
    """
    for number in _ENDING:
        signal.signal(number, _leave_at_once)
    try:
        settings = load_settings(kind, environment)
        configure_logging(settings, service=name)
        # What was imported stays: the collector need not walk it.
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.enable()
        uvloop.run(_to_its_end(serve(settings)))
    except ConfigurationError as error:
        sys.stderr.write(f"ackledger: {redact(str(error))}\n")
        return 2
    except Exception as error:
        # Left to the interpreter, the text of any error would be printed as it is.
        log.critical("process_failed", exc_info=error)
        return 1
    return 0


def _leave_at_once(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(0)


async def _to_its_end(serving: Coroutine[Any, Any, None]) -> None:
    """Serve, and let no signal cut short what is left afterwards: a clean end stays one.

    Once the event loop is closed nobody would handle a second signal any more.
    """
    try:
        await serving
    finally:
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
