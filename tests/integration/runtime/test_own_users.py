"""Each process runs with users of its own, and none of the broker's may do more than it needs."""

import asyncio
from typing import Final

import aio_pika
import aiormq
import pytest

from cli.clients.management import Management
from contracts import topology
from contracts.broker_permissions import SERVICE_USERS
from runtime.postgres.pool import connect
from tests.integration.ingress.serving import CheckedDoors
from tests.support import deposit, eventually, requested
from tools.stack import Stack

pytestmark = pytest.mark.long

_PARTITION: Final = topology.partition_queue(0)
_EXCHANGES: Final = (
    topology.TRANSACTIONS_EXCHANGE,
    topology.EVENTS_EXCHANGE,
    topology.EVENT_BUNDLES,
    topology.DEAD_LETTERS,
    "",
)
_QUEUES: Final = (_PARTITION, topology.DEAD_LETTERS, topology.NOTIFICATIONS)
# Who may publish to which exchange ("" is the default one) and read which queue.
_MAY: Final[dict[str, tuple[set[str], set[str]]]] = {
    "ackledger-migrate": (set(_EXCHANGES) - {""}, set(_QUEUES)),
    "ackledger-ingress": ({""}, set()),
    "ackledger-processor": (
        {topology.EVENTS_EXCHANGE, topology.EVENT_BUNDLES, topology.DEAD_LETTERS, ""},
        {_PARTITION},
    ),
    "ackledger-reconciler": ({""}, {topology.DEAD_LETTERS}),
    "ackledger-notifier": ({topology.DEAD_LETTERS}, {topology.NOTIFICATIONS}),
    "ackledger-operator": ({""}, set()),
}
_PROCESSES: Final = ("ingress", "processor", "reconciler")


async def test_every_process_works_with_users_of_its_own(own_doors: CheckedDoors) -> None:
    api, upstream = own_doors.api, own_doors.upstream
    wallet = await api.create_wallet()
    await upstream.publish(requested(deposit(wallet, "2.00")), routing_key=wallet)
    assert (await api.deposit(wallet, "1.00")).json["status"] == "COMPLETED"
    connection = await connect(own_doors.database_url, name="test")

    rows = await connection.fetch(
        "SELECT DISTINCT usename::text, application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'ackledger-%'"
        " AND pid <> pg_backend_pid()"
    )
    await connection.close()
    management = Management(own_doors.stack.rabbitmq.management_url or "")

    async def broker_users() -> set[str] | None:
        found = await asyncio.to_thread(management.call, "GET", "/api/connections")
        ours = {one["user"] for one in found if one.get("vhost") == own_doors.vhost}
        return ours if {f"ackledger-{one}" for one in _PROCESSES} <= ours else None

    users = await eventually(broker_users, what="a broker user of each process")
    assert "ackledger" not in users
    logins = {row["usename"] for row in rows}
    assert {f"ackledger_{one}_login" for one in _PROCESSES} <= logins
    assert "ackledger" not in logins


async def _may_publish(connection: aio_pika.abc.AbstractConnection, exchange: str) -> bool:
    channel = await connection.channel()
    target = await channel.get_exchange(exchange, ensure=False)
    try:
        # Nobody's queue: what is permitted is returned, and changes nothing.
        await target.publish(aio_pika.Message(b"{}"), routing_key="nobody.s", mandatory=False)
    except aiormq.exceptions.ChannelAccessRefused:
        return False
    await channel.close()
    return True


async def _ignore(_: object) -> None:
    """Take nothing."""


async def _may_read(connection: aio_pika.abc.AbstractConnection, queue: str) -> bool:
    channel = await connection.channel()
    try:
        await (await channel.get_queue(queue, ensure=False)).consume(_ignore)
    except aiormq.exceptions.ChannelAccessRefused:
        return False
    await channel.close()
    return True


async def _may_declare(connection: aio_pika.abc.AbstractConnection, name: str) -> bool:
    channel = await connection.channel()
    try:
        await channel.declare_exchange(name, "fanout", durable=False, auto_delete=True)
    except aiormq.exceptions.ChannelAccessRefused:
        return False
    await channel.exchange_delete(name)
    return True


@pytest.mark.parametrize("user", list(SERVICE_USERS))
async def test_a_process_s_user_may_do_what_it_needs_and_no_more(
    stack: Stack, broker_url: str, user: str
) -> None:
    process = user.removeprefix("ackledger-")
    url = stack.as_process({"AMQP_URL": broker_url}, process)["AMQP_URL"]
    connection = await aio_pika.connect(url)
    async with connection:
        written = {one for one in _EXCHANGES if await _may_publish(connection, one)}
        read = {one for one in _QUEUES if await _may_read(connection, one)}
        declares_ours = await _may_declare(connection, "ackledger.other")
        declares_others = await _may_declare(connection, "billing.other")

    assert (written, read) == _MAY[user]
    assert declares_ours == (user == "ackledger-migrate")
    assert not declares_others
