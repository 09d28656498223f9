"""Bringing a database and a broker to what this release needs, or telling what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from contracts.topology import EXCHANGES, queues
from ops.dependencies import Connection, database_connection, unreachable
from ops.failures import RefusedError
from runtime import broker
from runtime.migrations import (
    MigrationError,
    load_migrations,
    migrate,
    missing_migrations,
)
from runtime.settings import BrokerSettings, DatabaseSettings
from runtime.topology import TopologyError, declare_topology

# Some forty seconds with their pauses; a session that holds a table for longer will not let go.
LOCK_TRIES: Final = 10


class MigrateSettings(DatabaseSettings, BrokerSettings):
    """What `ackledger migrate` needs."""


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
    return Changes(applied, await _declared(settings))


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


async def _applied(connection: Connection, say: Callable[[str], None]) -> tuple[str, ...]:
    try:
        applied = await migrate(connection, load_migrations(), tries=LOCK_TRIES, say=say)
    except MigrationError as error:
        raise RefusedError(str(error)) from error
    return tuple(migration.version for migration in applied)


async def _declared(settings: MigrateSettings) -> tuple[str, ...]:
    """Declare all of it, since bindings and arguments are not seen from outside."""
    missing = await _missing_topology(settings)
    try:
        await declare_topology(settings.amqp_url, partitions=settings.partitions)
    except TopologyError as error:
        raise RefusedError(str(error)) from error
    except broker.UNREACHABLE as error:
        raise unreachable("RabbitMQ", settings.amqp_url, error) from error
    return missing


async def _missing_topology(settings: MigrateSettings) -> tuple[str, ...]:
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
        await channel.queue_declare(name, passive=True)
    except ChannelNotFoundEntity:
        return False
    await channel.close()
    return True
