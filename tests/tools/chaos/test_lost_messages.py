"""What the broker confirmed and lost, and connections that are cut under load."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.topology import partition_queue
from runtime.amqp.connection import close, connect, open_channel
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.tools.chaos.attacked import INSTANCES, Run, answered, chaos_doors, run_load
from tools.chaos.events import QUEUE
from tools.chaos.journal import Door, Outcome
from tools.chaos.proxy import Proxy
from tools.stack import Stack

pytestmark = pytest.mark.long

_BEFORE_S = 5.0
"""What was confirmed so long before the processor stopped may still have waited in the queue."""


@pytest.fixture
async def attacked(stack: Stack, template: str, tmp_path: Path) -> AsyncIterator[CheckedDoors]:
    """A system that a test may harm."""
    async with open_doors(stack, template, tmp_path, instances=INSTANCES) as doors:
        yield doors


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    """A proxy to the broker."""
    async with Proxy.to(stack.rabbitmq.url) as proxy:
        yield proxy


async def test_what_a_lost_queue_held_is_sent_again_and_keeps_every_promise(
    attacked: CheckedDoors, tmp_path: Path
) -> None:
    async def lose_the_queue(run: Run) -> None:
        await answered(run.journal, 150)
        began_s = time.monotonic()
        await asyncio.to_thread(attacked.system.halt, "processor")
        await answered(run.journal, 150)
        assert await _purge(attacked) > 0
        run.lost.append((began_s - _BEFORE_S, time.monotonic()))
        await asyncio.to_thread(attacked.system.restart, "processor")
        await answered(run.journal, 150)

    run = await run_load(chaos_doors(attacked), tmp_path, seed=12, attack=lose_the_queue)
    verdict = await run.verdict()

    again = [one for one in run.journal.read() if one.is_after_loss]
    assert verdict.breaches == []
    assert {(one.door, one.outcome) for one in again} == {(Door.AMQP, Outcome.CONFIRMED)}
    # The reconciler finished what the ingress had announced in vain; later ones went before.
    assert verdict.late > 0


async def test_what_a_lost_queue_held_is_missed_unless_it_is_sent_again(
    attacked: CheckedDoors, tmp_path: Path
) -> None:
    async def lose_the_queue(run: Run) -> None:
        await asyncio.to_thread(attacked.system.halt, "processor")
        await answered(run.journal, 150)
        assert await _purge(attacked) > 0
        await asyncio.to_thread(attacked.system.restart, "processor")

    run = await run_load(
        chaos_doors(attacked), tmp_path, seed=13, attack=lose_the_queue, bound_s=8.0
    )
    verdict = await run.verdict()

    assert run.drained_s is None
    assert "T" in {breach.invariant for breach in verdict.breaches}


async def test_connections_cut_under_load_cost_neither_a_promise_nor_an_event(
    attacked: CheckedDoors, proxy: Proxy, tmp_path: Path
) -> None:
    async def cut(run: Run) -> None:
        for _ in range(4):
            await answered(run.journal, 100)
            proxy.cut()
        await answered(run.journal, 60)

    run = await run_load(
        chaos_doors(attacked, broker_port=proxy.port), tmp_path, seed=14, attack=cut
    )
    verdict = await run.verdict()

    assert verdict.breaches == []
    assert run.is_every_event_read
    assert any(
        one.door is Door.AMQP and one.outcome is Outcome.UNKNOWN for one in run.journal.read()
    )


async def test_the_recorder_misses_no_event_that_was_told_while_it_was_away(
    attacked: CheckedDoors, proxy: Proxy, tmp_path: Path
) -> None:
    async def keep_away(run: Run) -> None:
        with proxy.refusing():
            await answered(run.journal, 60)
            assert await _waiting(attacked, QUEUE) > 0

    run = await run_load(
        chaos_doors(attacked, broker_port=proxy.port), tmp_path, seed=15, attack=keep_away
    )
    verdict = await run.verdict()

    assert run.is_every_event_read
    assert verdict.breaches == []


async def _purge(doors: CheckedDoors) -> int:
    """Empty the partition's queue; return how many messages were in it."""
    connection = await connect(doors.amqp_url, name="test")
    try:
        channel = await open_channel(connection)
        purged = await channel.queue_purge(partition_queue(0))
        return purged.message_count or 0
    finally:
        await close(connection)


async def _waiting(doors: CheckedDoors, queue: str) -> int:
    connection = await connect(doors.amqp_url, name="test")
    try:
        channel = await open_channel(connection)
        return (await channel.queue_declare(queue, passive=True)).message_count or 0
    finally:
        await close(connection)
