"""A collector that dies between storing and acking: stored once, and nothing stays behind."""

import asyncio
from pathlib import Path

import pytest

from contracts.messages import REASON_HEADER
from contracts.topology import DEAD_LETTERS
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Outgoing, Publisher
from runtime.amqp.topology import check_queue
from runtime.postgres.pool import Connection
from runtime.service.fault_points import Fault, FaultPoint
from tests.integration.dead_letters.conftest import PARTITIONS
from tests.support import eventually
from tools.stack import Stack
from tools.system import Instance, Role, System

BODIES = [f"not json {number}".encode() for number in range(5)]
LAST = b"the last"


@pytest.fixture
def system(stack: Stack, database_url: str, broker_url: str, tmp_path: Path) -> System:
    """A reconciler by itself, which looks for orders to die."""
    return System(
        environment={
            "DATABASE_URL": database_url,
            "AMQP_URL": broker_url,
            "REDIS_URL": stack.redis.url,
            "ACKLEDGER_PARTITIONS": str(PARTITIONS),
            "ACKLEDGER_FAULT_ORDERS": str(tmp_path),
        },
        directory=tmp_path,
        instances=(Instance(role=Role.RECONCILER),),
        say=lambda _: None,
    )


async def _publish(publisher: Publisher, *bodies: bytes) -> None:
    for body in bodies:
        message = Outgoing(
            exchange=DEAD_LETTERS,
            routing_key="",
            body=body,
            type="transaction.requested.v1",
            headers={REASON_HEADER: "not_json"},
        )
        await publisher.publish(message, timeout_s=5)


async def test_what_was_stored_and_not_acked_comes_again_and_is_stored_once(
    system: System, database: Connection, publisher: Publisher, channel: Channel, tmp_path: Path
) -> None:
    order = tmp_path / FaultPoint.DEAD_LETTERS_STORED

    async def is_dead() -> bool:
        return system.pid(Role.RECONCILER) is None

    async def waits() -> bool:
        return await check_queue(channel, DEAD_LETTERS) == len(BODIES)

    async def last_stored() -> bool:
        return bool(await database.fetchval("SELECT 1 FROM dead_letters WHERE body = $1", LAST))

    async with system:
        order.write_text(Fault.KILL, encoding="utf-8")
        await _publish(publisher, *BODIES)
        await eventually(is_dead, what="the collector is killed")
        stored_before = await database.fetchval("SELECT count(*) FROM dead_letters")
        await eventually(waits, what="the broker has all of them again")
        await asyncio.to_thread(system.restart, Role.RECONCILER)
        # Behind all that came again: when it is stored, they are.
        await _publish(publisher, LAST)
        await eventually(last_stored, what="the last is stored")
    rows = await database.fetch("SELECT body FROM dead_letters")

    assert order.with_name(f"{order.name}.struck").exists()
    assert stored_before >= 1
    assert sorted(row["body"] for row in rows) == [*BODIES, LAST]
