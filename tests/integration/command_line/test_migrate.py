"""`ackledger migrate`: tells what it did, changes nothing twice, waits for nobody for ever."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.topology import partition_queue
from runtime.amqp import connection as broker
from runtime.postgres.migrate import load_migrations, migrate
from runtime.postgres.pool import connect
from tests.integration.command_line.calling import Called, ackledger, ended, started

pytestmark = pytest.mark.long

VERSIONS = [migration.version for migration in load_migrations()]
TOPOLOGY = [
    "exchange ackledger.transactions",
    "exchange ackledger.events",
    "exchange ackledger.events.bundles",
    "exchange ackledger.dead-letters",
    "queue ackledger.dead-letters",
    "queue ackledger.notifications",
    "queue ackledger.events.log",
    "queue ackledger.transactions.0",
]


async def test_the_first_run_tells_each_migration_and_each_name(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    called = await ackledger("migrate", directory=directory, variables=empty_servers)

    assert called.code == 0
    assert called.out.splitlines() == [
        *(f"applied  migration {version}" for version in VERSIONS),
        *(f"declared  {name}" for name in TOPOLOGY),
    ]


async def test_the_second_run_says_that_all_is_current(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    await ackledger("migrate", directory=directory, variables=empty_servers)

    called = await ackledger("migrate", "--json", directory=directory, variables=empty_servers)

    assert called.code == 0
    assert called.json == {"current": True, "applied_migrations": [], "declared_topology": []}


async def test_two_at_once_apply_each_migration_once(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    both = await asyncio.gather(
        *(
            ackledger("migrate", "--json", directory=directory, variables=empty_servers)
            for _ in range(2)
        )
    )

    assert [called.code for called in both] == [0, 0]
    applied = [version for called in both for version in called.json["applied_migrations"]]
    assert sorted(applied) == VERSIONS


async def test_check_changes_nothing_and_tells_what_is_missing(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    async def check() -> Called:
        return await ackledger(
            "migrate", "--check", "--json", directory=directory, variables=empty_servers
        )

    missing = {
        "current": False,
        "missing_migrations": VERSIONS,
        "missing_topology": TOPOLOGY,
    }
    for _ in range(2):
        called = await check()
        assert (called.code, called.json) == (1, missing)
    await ackledger("migrate", directory=directory, variables=empty_servers)
    assert (await check()).code == 0


async def test_more_partitions_declare_the_queues_that_are_new(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    await ackledger("migrate", directory=directory, variables=empty_servers)

    called = await ackledger(
        "migrate",
        "--json",
        directory=directory,
        variables={**empty_servers, "ACKLEDGER_PARTITIONS": "3"},
    )

    assert called.json["declared_topology"] == [
        f"queue {partition_queue(number)}" for number in (1, 2)
    ]


async def test_another_number_of_partitions_is_refused_until_the_queues_are_drained(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    four = {**empty_servers, "ACKLEDGER_PARTITIONS": "4"}
    two = {**empty_servers, "ACKLEDGER_PARTITIONS": "2"}
    await ackledger("migrate", directory=directory, variables=four)
    connection = await broker.connect(empty_servers["AMQP_URL"], name="test")
    channel = await broker.open_channel(connection)
    await channel.basic_publish(b"waits", routing_key=partition_queue(3))

    refused = await ackledger("migrate", directory=directory, variables=two)
    await channel.queue_purge(partition_queue(3))
    called = await ackledger("migrate", "--json", directory=directory, variables=two)
    again = await ackledger("migrate", "--json", directory=directory, variables=two)
    await broker.close(connection)

    assert refused.code == 1
    assert f"{partition_queue(3)} has 1 messages" in refused.err
    assert called.json["declared_topology"] == [
        f"queue {partition_queue(number)} (deleted)" for number in (2, 3)
    ]
    assert again.json["current"]


@pytest.mark.parametrize("process", ["ingress", "processor", "reconciler"])
async def test_a_process_with_another_number_of_partitions_does_not_run(
    directory: Path, empty_servers: dict[str, str], process: str
) -> None:
    await ackledger("migrate", directory=directory, variables=empty_servers)

    called = await ackledger(
        "serve",
        process,
        directory=directory,
        variables={
            **empty_servers,
            "REDIS_URL": "redis://127.0.0.1:1/",
            "ACKLEDGER_PARTITIONS": "4",
            "ACKLEDGER_HTTP_PORT": "0",
            "ACKLEDGER_STATUS_PORT": "0",
        },
    )

    assert called.code == 2
    assert "ACKLEDGER_PARTITIONS=4: the queues are laid out for 1" in called.err


async def test_a_lock_that_is_held_for_a_moment_is_waited_for(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    url = empty_servers["DATABASE_URL"]
    early = [one for one in load_migrations() if one.version < "0006"]
    connection = await connect(url, name="test")
    try:
        await migrate(connection, early)
        holding = connection.transaction()
        await holding.start()
        await connection.execute("LOCK TABLE dead_letters IN ACCESS SHARE MODE")
        process = await started("migrate", "--json", directory=directory, variables=empty_servers)
        assert process.stderr is not None
        async with asyncio.timeout(30):
            line = await process.stderr.readline()
        assert b"waits for a lock" in line
        await holding.rollback()
        called = await ended(process)
    finally:
        await connection.close()

    assert called.code == 0
    assert called.json["applied_migrations"] == VERSIONS[len(early) :]


async def test_a_queue_with_other_arguments_is_refused_with_what_to_do(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    connection = await broker.connect(empty_servers["AMQP_URL"], name="test")
    channel = await broker.open_channel(connection)
    await channel.queue_declare(partition_queue(0), durable=True)
    await broker.close(connection)

    called = await ackledger("migrate", directory=directory, variables=empty_servers)

    assert called.code == 1
    assert "other arguments" in called.err
    assert "run: ackledger migrate" in called.err


@pytest.mark.parametrize("arguments", [("migrate",), ("migrate", "--check")], ids=" ".join)
async def test_a_migration_that_was_changed_afterwards_is_refused(
    directory: Path, empty_servers: dict[str, str], arguments: tuple[str, ...]
) -> None:
    await ackledger("migrate", directory=directory, variables=empty_servers)
    connection = await connect(empty_servers["DATABASE_URL"], name="test")
    await connection.execute("UPDATE schema_migrations SET checksum = 'other'")
    await connection.close()

    called = await ackledger(*arguments, directory=directory, variables=empty_servers)

    assert called.code == 1
    assert f"{VERSIONS[0]} was changed" in called.err


async def test_keys_that_keep_reaching_all_are_named_once(
    directory: Path, empty_servers: dict[str, str]
) -> None:
    connection = await connect(empty_servers["DATABASE_URL"], name="test")
    await migrate(connection, [one for one in load_migrations() if one.version < "0032"])
    for client, revoked_at in (("shop", None), ("gone", datetime.now(UTC))):
        await connection.execute(
            "INSERT INTO api_keys (id, client, scopes, key_hash, key_prefix, revoked_at) "
            "VALUES (gen_random_uuid(), $1, '{wallets:read}', $2, $3, $4)",
            client,
            client.encode(),
            f"ack_{client}",
            revoked_at,
        )
    first = await ackledger("migrate", directory=directory, variables=empty_servers)
    second = await ackledger("migrate", directory=directory, variables=empty_servers)
    reach = await connection.fetch("SELECT DISTINCT reach FROM api_keys")
    new = await connection.fetchval(
        "INSERT INTO api_keys (id, client, scopes, key_hash, key_prefix) "
        "VALUES (gen_random_uuid(), 'new', '{}', '', '') RETURNING reach"
    )
    await connection.close()

    assert (first.code, second.code) == (0, 0)
    assert "ack_shop… of shop" in first.err
    assert "gone" not in first.err
    assert "everybody" not in second.err
    assert [row["reach"] for row in reach] == ["all"]
    # A release before this one makes keys without naming it.
    assert new == "own"
