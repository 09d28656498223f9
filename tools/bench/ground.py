"""The ground of one sample: an empty database, an empty virtual host, and a system on them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yarl import URL

from cli.dependencies import Connection
from cli.migrating import MigrateSettings, bring_up_to_date
from contracts.topology import partition_queue
from runtime.amqp import connection as broker
from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from runtime.service.settings import load_settings
from tools.stack import Stack, add_upstream_user, add_vhost, remove_vhost
from tools.system import CLIENT, Instance, Role, System

DATABASE: Final = "ackledger_bench"
VHOST: Final = "ackledger-bench"

PATIENT: Final = {
    # What is laid by hand waits longer than real traffic does, and nothing of it is lost.
    "ACKLEDGER_STALE_AFTER_S": "3600",
}
_PARTITIONS: Final = "ACKLEDGER_PARTITIONS"
LOG_KEPT: Final = {"ACKLEDGER_EVENTS_LOG": "true"}
_SETTINGS: Final = {
    "ACKLEDGER_HTTP_PORT": "0",
    "ACKLEDGER_STATUS_PORT": "0",
    # Nobody is bound to the events, unless a case says so: all figures are without the log.
    "ACKLEDGER_EVENTS_LOG": "false",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """Addresses of a database and a virtual host that nobody used before."""

    stack: Stack
    database_url: str
    amqp_url: str
    upstream_url: str
    submitter: str = CLIENT
    partitions: int = 1

    @property
    def server_pids(self) -> dict[str, int | None]:
        """The servers, for their CPU time."""
        return {"postgres": self.stack.postgres.pid, "rabbitmq": self.stack.rabbitmq.pid}

    @asynccontextmanager
    async def books(self) -> AsyncIterator[Connection]:
        """Give a connection to the database, without any bound on time."""
        connection = await connect(
            self.database_url, name="bench", session={"idle_in_transaction_session_timeout": "0"}
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def migrate(self, settings: Mapping[str, str]) -> None:
        """Make tables and queues."""
        urls = {
            "DATABASE_URL": self.database_url,
            "AMQP_URL": self.amqp_url,
            _PARTITIONS: str(self.partitions),
        }
        wanted = load_settings(MigrateSettings, {**_SETTINGS, **settings, **urls})
        await bring_up_to_date(wanted, lambda _: None)


@asynccontextmanager
async def fresh_ground(stack: Stack, *, partitions: int = 1) -> AsyncIterator[Ground]:
    """Make an empty database and virtual host; both are removed at the end.

    `partitions` is how many its system is to have, if there will be one.
    """
    await _in_database(stack, "drop_ground", "create_ground")
    amqp_url = await asyncio.to_thread(_fresh_vhost, stack)
    try:
        upstream_url = await asyncio.to_thread(
            add_upstream_user, stack, CLIENT, secrets.token_hex(8), vhost=VHOST
        )
        yield Ground(
            stack,
            database_of(stack, DATABASE),
            amqp_url,
            upstream_url,
            partitions=partitions,
        )
    finally:
        await asyncio.to_thread(remove_vhost, stack, VHOST)
        await _in_database(stack, "drop_ground")


def database_of(stack: Stack, name: str) -> str:
    """Return the URL of another database of the stack's PostgreSQL."""
    return str(URL(stack.postgres.url).with_path(f"/{name}"))


def _fresh_vhost(stack: Stack) -> str:
    remove_vhost(stack, VHOST)
    return add_vhost(stack, VHOST)


async def _in_database(stack: Stack, *names: str) -> None:
    sql = load_queries("tools.bench")
    connection = await connect(stack.postgres.url, name="bench")
    try:
        for name in names:
            await connection.execute(sql[name])
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Crew:
    """Which processes are measured, and where their logs are kept."""

    directory: Path
    environment: Mapping[str, str]
    processors: int
    partitions: int = 1
    """If more than one, the processors share them; otherwise all but the first stand by."""

    @property
    def processor_labels(self) -> list[str]:
        """The processors, the first of which is to be the active one."""
        return [f"processor-{number}" if number > 1 else "processor" for number in self._numbers]

    @property
    def _numbers(self) -> range:
        return range(1, self.processors + 1)

    def system_on(self, ground: Ground, settings: Mapping[str, str]) -> System:
        """Return the usual deployment: one ingress, the processors, one reconciler."""
        return System(
            environment={
                **self.environment,
                **ground.stack.urls,
                "DATABASE_URL": ground.database_url,
                "AMQP_URL": ground.amqp_url,
                _PARTITIONS: str(self.partitions),
                **_SETTINGS,
                **settings,
            },
            directory=self.directory,
            instances=[
                Instance(role=Role.INGRESS),
                *(self._processor(number) for number in range(self.processors)),
                Instance(role=Role.RECONCILER),
            ],
            say=lambda _: None,
        )

    def _processor(self, number: int) -> Instance:
        share = range(number, self.partitions, self.processors) if self.partitions > 1 else ()
        return Instance(
            role=Role.PROCESSOR,
            name=self.processor_labels[number],
            environment={"ACKLEDGER_PROCESSOR_PARTITIONS": ",".join(map(str, share))},
        )


class Gate:
    """Holds the queues' places of single active consumer; once opened, the next in line consumes.

    So messages can be laid before processes that are up and warm, and no start is measured. The
    one message that the gate was delivered goes back to its place.
    """

    def __init__(self, amqp_url: str, *, partitions: int = 1) -> None:
        self._amqp_url = amqp_url
        self._partitions = partitions
        self._exits = AsyncExitStack()

    async def shut(self) -> None:
        """Take the places; nobody may consume yet."""
        connection = await broker.connect(self._amqp_url, name="bench-gate")
        self._exits.push_async_callback(broker.close, connection)
        channel = await broker.open_channel(connection)
        await channel.basic_qos(prefetch_count=1)
        for number in range(self._partitions):
            await channel.basic_consume(partition_queue(number), _hold)

    async def open(self) -> None:
        """Leave the places; safe to repeat."""
        await self._exits.aclose()


async def _hold(_: object) -> None:
    """Keep what was delivered, unsettled."""


@dataclass(frozen=True, slots=True)
class Field:
    """A ground with the system that runs on it."""

    ground: Ground
    system: System
    gate: Gate
    crew: Crew

    @property
    def cpu_pids(self) -> dict[str, int | None]:
        """Everything whose CPU time a transaction costs."""
        standbys = self.crew.processor_labels[1:]
        return {
            "ingress": self.system.pid("ingress"),
            "processor": self.system.pid("processor"),
            **(
                {label: self.system.pid(label) for label in standbys}
                if self.crew.partitions > 1
                else ({"standby": self.system.pid(standbys[0])} if standbys else {})
            ),
            **self.ground.server_pids,
        }


@asynccontextmanager
async def fresh_field(
    stack: Stack, crew: Crew, *, is_gated: bool = False, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Field]:
    """Start a system on a fresh ground; `is_gated`: it posts nothing before the gate is opened."""
    async with (
        fresh_ground(stack, partitions=crew.partitions) as ground,
        started(ground, crew, is_gated=is_gated, settings=settings or {}) as field,
    ):
        yield field


@asynccontextmanager
async def started(
    ground: Ground, crew: Crew, *, is_gated: bool, settings: Mapping[str, str]
) -> AsyncIterator[Field]:
    """Start a system on a ground that may have been used."""
    system = crew.system_on(ground, settings)
    gate = Gate(ground.amqp_url, partitions=crew.partitions)
    try:
        if is_gated:
            await ground.migrate(settings)
            await gate.shut()
        await asyncio.to_thread(system.start)
        for label in crew.processor_labels[1:] if crew.partitions == 1 else ():
            # Whoever came first consumes; a standby that comes again is behind it for sure.
            await asyncio.to_thread(system.restart, label)
        yield Field(ground, system, gate, crew)
    finally:
        await gate.open()
        await asyncio.to_thread(system.stop)


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that names no server and no setting: every run measures the same."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("ACKLEDGER_") and not name.endswith("_URL")
    }
