"""The scene of a chaos run: private servers, a doubled system, a proxy on every way to a server.

Whatever dies is started again at once, as a supervisor would do it. Whatever was done to the scene
is undone when it is left.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Final, Self, TypeVar, TypeVarTuple

import asyncpg

from cli.clients.management import Management
from cli.failures import CommandError
from runtime.postgres.pool import UNREACHABLE, connect
from runtime.postgres.queries import load_queries
from runtime.service.fault_points import Fault, FaultPoint
from tools.chaos.clock import ClockShift
from tools.chaos.doors import Doors
from tools.chaos.proxy import Proxy
from tools.chaos.shape import Shape
from tools.chaos.ways import Server, Way, way_of
from tools.children import Say
from tools.stack import Stack, StackError
from tools.system import CLIENT, Instance, Role, System

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

INGRESSES: Final = ("ingress", "ingress-2")
PROCESSORS: Final = ("processor", "processor-2")
RECONCILERS: Final = ("reconciler", "reconciler-2")
NOTIFIERS: Final = ("notifier", "notifier-2")
PROCESSES: Final = (*INGRESSES, *PROCESSORS, *RECONCILERS, *NOTIFIERS)

STALE_AFTER_S: Final = 5.0
LOCK_TIMEOUT_S: Final = 1.0
HEARTBEAT_S: Final = 2.0
_SETTINGS: Final = {
    "ACKLEDGER_HTTP_PORT": "0",
    "ACKLEDGER_STATUS_PORT": "0",
    # Short times: a run of half a minute shall see each of them pass.
    "ACKLEDGER_STALE_AFTER_S": str(STALE_AFTER_S),
    "ACKLEDGER_RECONCILE_INTERVAL_S": "1",
    # Many seals in a short run: each kill of a reconciler may come between two steps of one.
    "ACKLEDGER_SEAL_INTERVAL_S": "0.3",
    "ACKLEDGER_LOCK_TIMEOUT_S": str(LOCK_TIMEOUT_S),
    "ACKLEDGER_DATABASE_STATEMENT_TIMEOUT_S": "5",
    "ACKLEDGER_SHUTDOWN_TIMEOUT_S": "10",
    # Whoever follows events finds out by a silence of twice that that an ingress stands still.
    "ACKLEDGER_EVENTS_HEARTBEAT_S": str(HEARTBEAT_S),
    # The webhooks of a run lead to a server in its own process.
    "ACKLEDGER_WEBHOOK_TARGETS": "any",
}
ORDER_BOUND_S: Final = 30.0
"""How long a process may take to come to a point; under load it comes there many times a second."""
LOOK_INTERVAL_S: Final = 0.05
_REVIVAL_PAUSE_S: Final = 0.5
_QUESTION_S: Final = 2.0


class NotStruckError(Exception):
    """A fault could not be brought about, so the run says nothing about it."""


async def in_thread(work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Run blocking work to its end in a thread, also when the caller is cancelled meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


async def until(look: Callable[[], bool], *, what: str, within_s: float) -> None:
    """Return when `look` finds it; raises NotStruckError after a bound."""
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            raise NotStruckError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(LOOK_INTERVAL_S)


class Scene:
    """Two of each process on one stack, behind proxies; faults act on it through its methods."""

    def __init__(
        self,
        *,
        stack: Stack,
        directory: Path,
        environment: Mapping[str, str],
        say: Say,
        shape: Shape,
        clock: ClockShift | None = None,
    ) -> None:
        """`environment` is the caller's; none of its settings for a service reach the scene."""
        self.stack = stack
        self.directory = directory
        self.proxies: dict[Way, Proxy] = {}
        self.revivals: dict[str, int] = dict.fromkeys(PROCESSES, 0)
        self.losses: list[tuple[float, float]] = []
        """Spans (monotonic) in which an operator deleted a queue with what was announced in it."""
        self.clock = clock
        self.shape = shape
        self._environment = {
            name: value
            for name, value in environment.items()
            if not name.startswith("ACKLEDGER_") and not name.endswith("_URL")
        }
        self._say = say
        self._locks = {label: asyncio.Lock() for label in PROCESSES}
        self._sql = load_queries("tools.chaos.faults")
        self._exits = AsyncExitStack()
        self._is_over = False
        self._system: System | None = None

    @property
    def system(self) -> System:
        """Our processes."""
        if self._system is None:
            raise NotStruckError("the scene is not set")
        return self._system

    @property
    def doors(self) -> Doors:
        """What clients of this scene are given."""
        return Doors(
            http_urls=tuple(self.system.http_urls.values()),
            api_key=self.system.api_key,
            amqp_url=self._through(Way.UPSTREAM_RABBITMQ, self.upstream_url),
            database_url=self.stack.postgres.url,
            events_amqp_url=self.stack.rabbitmq.url,
            submitter=CLIENT,
        )

    @property
    def upstream_url(self) -> str:
        """Where the upstream user reaches the broker without a proxy."""
        url = self.stack.upstream_url(CLIENT)
        if url is None:
            raise NotStruckError("the broker has no upstream user")
        return url

    @property
    def management(self) -> Management:
        """The broker's management API; its calls block."""
        return Management(self.stack.rabbitmq.management_url or "")

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def _enter(self) -> None:
        for way in Way:
            proxy = Proxy.to(self._server_url(way))
            self.proxies[way] = await self._exits.enter_async_context(proxy)
        self._system = System(
            environment={
                **self._environment,
                **self.stack.urls,
                **_SETTINGS,
                **self.shape.settings,
            },
            directory=self.directory,
            instances=[self._instance(label) for label in PROCESSES],
            say=lambda _: None,
        )
        self._exits.push_async_callback(in_thread, self._end)
        await in_thread(self._system.start)
        keepers = [asyncio.create_task(self._keep(label)) for label in PROCESSES]
        self._exits.push_async_callback(_cancelled, keepers)

    async def leave_at_once(self) -> None:
        """End every process without its clean stop: for a scene whose work is over."""
        async with self.held(*PROCESSES):
            await self.kill(*PROCESSES)
            self._is_over = True

    def _end(self) -> None:
        self.resume_all()
        self.system.stop()

    def _instance(self, label: str) -> Instance:
        role = Role(label.removesuffix("-2"))
        self.orders(role).mkdir(parents=True, exist_ok=True)
        shifted = {} if self.clock is None else self.clock.environment(label)
        environment = {
            **shifted,
            "ACKLEDGER_FAULT_ORDERS": str(self.orders(role)),
            "DATABASE_URL": self._url(way_of(label, Server.POSTGRES)),
            "AMQP_URL": self._url(way_of(label, Server.RABBITMQ)),
        }
        if role is Role.INGRESS:
            environment["REDIS_URL"] = self._url(way_of(label, Server.REDIS))
        return Instance(role=role, name=label, environment=environment)

    def _server_url(self, way: Way) -> str:
        return {
            Server.POSTGRES: self.stack.postgres.url,
            Server.RABBITMQ: self.stack.rabbitmq.url,
            Server.REDIS: self.stack.redis.url,
        }[way.server]

    def _url(self, way: Way) -> str:
        return self._through(way, self._server_url(way))

    @contextmanager
    def refused(self, *ways: Way) -> Iterator[None]:
        """End every connection of these ways and let no new one through."""
        with self.on(ways, Proxy.refusing):
            yield

    @contextmanager
    def on(
        self, ways: Iterable[Way], trouble: Callable[[Proxy], AbstractContextManager[object]]
    ) -> Iterator[None]:
        """Let the proxies of these ways make trouble."""
        with ExitStack() as troubled:
            for way in ways:
                troubled.enter_context(trouble(self.proxies[way]))
            yield

    def _through(self, way: Way, url: str) -> str:
        return self.proxies[way].through(url)

    async def _keep(self, label: str) -> None:
        """Start a process again whenever it is gone, unless a fault holds it."""
        while True:
            async with self._locks[label]:
                await self._revive(label)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _revive(self, label: str) -> None:
        if self._is_over or self.system.pid(label) is not None:
            return
        self.revivals[label] += 1
        try:
            await in_thread(self.system.restart, label)
        except CommandError as error:
            self._say(f"{label} does not come back: {error}")
            await asyncio.sleep(_REVIVAL_PAUSE_S)

    @asynccontextmanager
    async def held(self, *labels: str) -> AsyncIterator[None]:
        """Leave processes to the caller: while this lasts, nobody else starts them again.

        Whoever is just being started is waited for.
        """
        async with AsyncExitStack() as held:
            for label in labels:
                await held.enter_async_context(self._locks[label])
            yield

    @asynccontextmanager
    async def down(self, *labels: str) -> AsyncIterator[None]:
        """Stop processes cleanly; they come back afterwards."""
        async with self.held(*labels):
            await asyncio.gather(*(in_thread(self.system.halt, label) for label in labels))
            yield

    async def restart(self, label: str) -> None:
        """Stop a process cleanly, start it, and return when it is ready."""
        async with self.held(label):
            await in_thread(self.system.restart, label)

    async def kill(self, *labels: str) -> None:
        """End processes with SIGKILL; they are started again at once."""
        await asyncio.gather(*(in_thread(self.system.kill, label) for label in labels))

    def stop(self, label: str) -> None:
        """Let a process stand still until `resume_all`; raises NotStruckError if it is gone."""
        pid = self.system.pid(label)
        if pid is None:
            raise NotStruckError(f"{label} is not there")
        os.kill(pid, signal.SIGSTOP)

    def resume_all(self) -> None:
        """Let every stopped process run on."""
        for label in PROCESSES:
            pid = self.system.pid(label)
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def orders(self, role: Role) -> Path:
        """Return the directory in which the processes of a role look for orders."""
        return self.directory / "orders" / role.value

    @asynccontextmanager
    async def ordered(self, role: Role, point: FaultPoint, fault: Fault) -> AsyncIterator[None]:
        """Order a fault at a point; entered when one process of the role has carried it out.

        They share a directory, so that it is one of them. Raises NotStruckError when none comes
        to that point.
        """
        order = self.orders(role) / point.value
        struck = order.with_name(f"{point.value}.struck")
        draft = order.with_name(f"{point.value}.draft")
        draft.write_text(fault.value, encoding="utf-8")
        draft.rename(order)
        try:
            what = f"{fault.value} at {point.value}"
            await until(struck.exists, what=what, within_s=ORDER_BOUND_S)
            yield
        finally:
            order.unlink(missing_ok=True)
            struck.unlink(missing_ok=True)

    async def pending(self) -> int | None:
        """Return how many transactions are PENDING; None while PostgreSQL does not answer."""
        with suppress(*UNREACHABLE, asyncpg.PostgresError):
            async with asyncio.timeout(_QUESTION_S), self.books() as connection:
                return int(await connection.fetchval(self._sql["count_pending"]))
        return None

    async def next_completed(self, *, within_s: float) -> None:
        """Return when a transaction was completed after this call; raises NotStruckError."""
        async with self.books() as connection:
            began = await connection.fetchval(self._sql["read_clock"])
            deadline = time.monotonic() + within_s
            while not await connection.fetchval(self._sql["is_completed_since"], began):
                if time.monotonic() > deadline:
                    raise NotStruckError(f"nothing was completed for {within_s:g} s")
                await asyncio.sleep(4 * LOOK_INTERVAL_S)

    @asynccontextmanager
    async def books(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """Give a connection to the ledger that no proxy and no fault of a way reaches."""
        connection = await connect(self.stack.postgres.url, name="chaos")
        try:
            yield connection
        finally:
            await connection.close(timeout=_QUESTION_S)

    async def heal(self) -> None:
        """See to it that every server serves and every process runs, whatever a fault left."""
        self.resume_all()
        for service in self.stack.services:
            await in_thread(service.resume)
            try:
                await in_thread(service.start)
            except StackError as error:
                raise NotStruckError(f"the scene cannot be healed: {error}") from error
        for label in PROCESSES:
            await until(
                lambda label=label: self.system.pid(label) is not None,  # type: ignore[misc]
                what=f"{label} is back",
                within_s=ORDER_BOUND_S,
            )


async def _cancelled(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
