"""Bringing a database and a broker to what this release needs, or telling what is missing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity
from pydantic import Field

from cli.actor import login_actor
from cli.dependencies import Connection, database_connection, unreachable
from cli.failures import RefusedError
from contracts.topology import (
    EVENTS_LOG_DAYS,
    EXCHANGES,
    EventQueues,
    partition_queue,
    queues,
)
from runtime.amqp import connection as broker
from runtime.amqp.topology import (
    QueueDownError,
    QueueState,
    TopologyError,
    declare_topology,
    look_at_queue,
)
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.migrate import (
    MigrationError,
    load_migrations,
    migrate,
    missing_migrations,
)
from runtime.postgres.partition_layout import read_partitions, write_partitions
from runtime.postgres.queries import load_queries
from runtime.postgres.roles import Applied, RolesMissingError, apply_roles, have_roles
from runtime.service.settings import BrokerSettings, DatabaseSettings

# Some forty seconds with their pauses; a session that holds a table for longer will not let go.
LOCK_TRIES: Final = 10
SHOWN_MAX: Final = 5
"""Reasons in one sentence."""
REACH_MIGRATION: Final = "0032_reach"
KEYS_SHOWN_MAX: Final = 100
"""Keys that one warning names."""


class MigrateSettings(DatabaseSettings, BrokerSettings):
    """What `ackledger migrate` needs."""

    notify_money: bool = False
    events_log_days: Annotated[int, Field(ge=1, le=3650)] = EVENTS_LOG_DAYS

    @property
    def event_queues(self) -> EventQueues:
        """Which of our own queues take events."""
        return EventQueues(
            notify_money=self.notify_money,
            is_log_kept=self.events_log,
            log_days=self.events_log_days,
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Migrations and names of the broker's topology, in their order; both empty: all is current."""

    migrations: tuple[str, ...]
    topology: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.migrations or self.topology)


async def bring_up_to_date(settings: MigrateSettings, say: Callable[[str], None]) -> Changes:
    """Apply and declare what is missing; returns what this call did. Safe to run again."""
    async with database_connection(settings, name="migrate") as connection:
        applied = await _applied(connection, say)
        if await have_roles(connection):
            await apply_database_roles(connection)
        if REACH_MIGRATION in applied:
            await _warn_of_reach(connection, say)
        laid_out = await read_partitions(connection)
        if laid_out not in (None, settings.partitions):
            await _refuse_undrained(connection, settings, laid_out)
        declared = await _declared(settings)
        deleted = await _delete_queues(settings, range(settings.partitions, laid_out or 0))
        await write_partitions(connection, settings.partitions)
    return Changes(applied, (*declared, *deleted))


async def apply_database_roles(connection: Connection) -> Applied:
    """Make and grant the processes' roles; raises RefusedError where that is not permitted."""
    try:
        return await apply_roles(connection)
    except RolesMissingError as error:
        raise RefusedError(str(error)) from error


async def find_missing(settings: MigrateSettings) -> Changes:
    """Return what `bring_up_to_date` would do, changing nothing."""
    async with database_connection(settings, name="migrate-check") as connection:
        try:
            missing = await missing_migrations(connection, load_migrations())
        except MigrationError as error:
            raise RefusedError(str(error)) from error
    return Changes(
        tuple(migration.version for migration in missing), await _missing_topology(settings)
    )


async def _refuse_undrained(
    connection: Connection, settings: MigrateSettings, laid_out: int
) -> None:
    """Raise RefusedError unless nothing waits and nobody works: no order can be lost then."""
    undrained = [
        f"{queue} has {state.waiting} messages and {state.consumers} consumers"
        for queue, state in (await _states(settings, range(laid_out))).items()
        if state.waiting or state.consumers
    ]
    if await connection.fetchval(load_queries("cli")["has_pending"]):
        undrained.append("some transactions are PENDING")
    if undrained:
        raise RefusedError(
            f"ACKLEDGER_PARTITIONS={settings.partitions}: the queues are laid out for {laid_out}"
            f" and not drained ({'; '.join(undrained[:SHOWN_MAX])}); stop the ingresses and the"
            " upstream systems, wait until nothing is PENDING, stop the processors, then run:"
            " ackledger migrate"
        )


async def _states(settings: MigrateSettings, partitions: range) -> dict[str, QueueState]:
    """Return the state of each partition's queue that exists."""
    found: dict[str, QueueState] = {}
    try:
        connection = await broker.connect(settings.amqp_url, name="migrate-check")
        try:
            for queue in map(partition_queue, partitions):
                # A channel for each question: the answer 'there is none' closes it.
                channel = await broker.open_channel(connection)
                with suppress(TopologyError):
                    found[queue] = await look_at_queue(channel, queue)
                    await channel.close()
        finally:
            await broker.close(connection)
    except broker.UNREACHABLE as error:
        raise unreachable("RabbitMQ", settings.amqp_url, error) from error
    return found


async def _delete_queues(settings: MigrateSettings, partitions: range) -> tuple[str, ...]:
    """Delete the drained queues of partitions that are no more, and return what was deleted."""
    states = await _states(settings, partitions)
    if not states:
        return ()
    connection = await broker.connect(settings.amqp_url, name="migrate")
    try:
        channel = await broker.open_channel(connection)
        for queue in states:
            await channel.queue_delete(queue)
    finally:
        await broker.close(connection)
    return tuple(f"queue {queue} (deleted)" for queue in states)


async def _applied(connection: Connection, say: Callable[[str], None]) -> tuple[str, ...]:
    try:
        applied = await migrate(connection, load_migrations(), tries=LOCK_TRIES, say=say)
    except MigrationError as error:
        raise RefusedError(str(error)) from error
    versions = tuple(migration.version for migration in applied)
    if versions:
        await note_act(
            connection,
            Trail(login_actor()),
            action="database.migrated",
            subject="database",
            detail={"migrations": versions},
        )
    return versions


async def _warn_of_reach(connection: Connection, say: Callable[[str], None]) -> None:
    """Name the keys that see and move everybody's wallets, as every key did until now."""
    rows = await connection.fetch(
        load_queries("cli")["list_keys_that_reach_all"], KEYS_SHOWN_MAX + 1
    )
    if not rows:
        return
    named = ", ".join(f"{row['key_prefix']}… of {row['client']}" for row in rows[:KEYS_SHOWN_MAX])
    more = " and more" if len(rows) > KEYS_SHOWN_MAX else ""
    say(
        f"warning: these API keys still see and move everybody's wallets: {named}{more}. "
        "Give their clients new keys (ackledger api-keys create; --wallets own is the default), "
        "grant them the wallets that others made (ackledger wallets grant), revoke the old keys."
    )


async def _declared(settings: MigrateSettings) -> tuple[str, ...]:
    """Declare all of it, since bindings and arguments are not seen from outside."""
    missing = await _missing_topology(settings)
    try:
        await declare_topology(
            settings.amqp_url, partitions=settings.partitions, events=settings.event_queues
        )
    except TopologyError as error:
        raise RefusedError(str(error)) from error
    except broker.UNREACHABLE as error:
        raise unreachable("RabbitMQ", settings.amqp_url, error) from error
    return missing


async def _missing_topology(settings: MigrateSettings) -> tuple[str, ...]:
    """Return what is not declared; a queue that is not up yet is."""
    try:
        connection = await broker.connect(settings.amqp_url, name="migrate-check")
        try:
            return tuple(
                [
                    f"exchange {exchange.name}"
                    for exchange in EXCHANGES
                    if not await _has_exchange(connection, exchange.name)
                ]
                + [
                    f"queue {queue.name}"
                    for queue in queues(settings.partitions)
                    if not await _has_queue(connection, queue.name)
                ]
            )
        finally:
            await broker.close(connection)
    except broker.UNREACHABLE as error:
        raise unreachable("RabbitMQ", settings.amqp_url, error) from error


async def _has_exchange(connection: AbstractConnection, name: str) -> bool:
    # A channel for each question: the answer 'no' closes it.
    channel = await broker.open_channel(connection)
    try:
        await channel.exchange_declare(name, passive=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


async def _has_queue(connection: AbstractConnection, name: str) -> bool:
    channel = await broker.open_channel(connection)
    try:
        await look_at_queue(channel, name)
    except TopologyError:
        return False
    except QueueDownError:
        return True
    await channel.close()
    return True
