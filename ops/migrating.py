"""Bringing a database and a broker to what this release needs, or telling what is missing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import asyncpg
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from contracts.topology import EXCHANGES, queues
from ops.dependencies import Connection, database_connection, unreachable
from ops.failures import RefusedError
from runtime import broker
from runtime.backoff import Backoff
from runtime.migrations import (
    Migration,
    MigrationError,
    load_migrations,
    migrate,
    missing_migrations,
)
from runtime.settings import BrokerSettings, DatabaseSettings
from runtime.topology import TopologyError, declare_topology

# Each try waits one second for a lock; live traffic that holds one for ten tries will not let go.
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
    migrations = load_migrations()
    try:
        # Looked at as a whole first: where a file was changed, nothing is applied.
        if not await missing_migrations(connection, migrations):
            return ()
        # One by one, so that what was applied before a lock was missed is known.
        applied = [await _apply(connection, migration, say) for migration in migrations]
    except MigrationError as error:
        raise RefusedError(str(error)) from error
    return tuple(version for versions in applied for version in versions)


async def _apply(
    connection: Connection, migration: Migration, say: Callable[[str], None]
) -> list[str]:
    """Apply one migration unless another process did."""
    backoff = Backoff(first_s=0.5, most_s=5.0)
    for attempt in range(1, LOCK_TRIES):
        try:
            return [done.version for done in await migrate(connection, [migration])]
        except asyncpg.LockNotAvailableError:
            say(f"{migration.version} waits for a lock (try {attempt} of {LOCK_TRIES})")
            await asyncio.sleep(backoff.next_delay_s())
    try:
        return [done.version for done in await migrate(connection, [migration])]
    except asyncpg.LockNotAvailableError as error:
        raise RefusedError(
            f"{migration.version} could not get its lock in {LOCK_TRIES} tries, since other "
            f"sessions hold it ({error}); run it again when they are done"
        ) from error


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
