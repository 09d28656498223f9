"""The page of the client and its samples work as they are printed."""

import asyncio
import re
import sys
from functools import partial
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest

from tests.conftest import Doors
from tests.end_to_end.client.programs import SAMPLES, output_of
from tests.end_to_end.client.samples import check_publishing, check_submitting
from tests.support import eventually

_PAGE = SAMPLES.parent / "client.md"
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


async def test_every_block_of_the_page_runs_as_it_is_printed(doors: Doors, tmp_path: Path) -> None:
    blocks = _PYTHON.findall(_PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 8
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")

    output = await output_of(doors, sys.executable, program)

    first, *rest = output.splitlines()
    assert re.fullmatch(r"TXN-[A-Z2-7]{26} COMPLETED", first)
    assert rest[:2] == ["74.50", "25.50"]
    assert any(line.startswith("idempotency_key_reused ") for line in rest)
    assert "transaction.completed" in output
    # Nobody has closed it, and nothing complains.
    assert "Unclosed" not in output


@pytest.mark.parametrize("command", [["bash", "submit.sh"], [sys.executable, "submit.py"]])
async def test_a_sample_submits_and_waits(doors: Doors, command: list[str]) -> None:
    program, sample = command
    await check_submitting(doors, program, SAMPLES / sample)


async def test_the_sample_of_bundles_takes_each_event_once(doors: Doors, tmp_path: Path) -> None:
    file, queue = tmp_path / "events.db", f"test.{uuid4().hex}"
    reading = {"ACKLEDGER_EVENTS_AMQP_URL": doors.amqp_url}

    async def take(count: int) -> list[str]:
        command = (sys.executable, SAMPLES / "bundles.py", queue, file, str(count))
        return (await output_of(doors, *command, **reading)).splitlines()

    wallet = await doors.api.create_wallet()
    async with await aio_pika.connect(doors.amqp_url) as connection:
        channel = await connection.channel()
        bundles = await channel.get_exchange("ackledger.events.bundles")
        listener = await channel.declare_queue(exclusive=True)
        await listener.bind(bundles)
        taking = asyncio.create_task(take(3))
        await eventually(partial(_is_read, connection, queue), what="the sample reads its queue")
        ids = [(await doors.api.deposit(wallet, "1.00")).json["id"] for _ in range(3)]
        first = await taking
        # All of it again, as after a crash of the relay, before what is new.
        again = await listener.get()
        await bundles.publish(aio_pika.Message(again.body), routing_key="")
        ids.append((await doors.api.deposit(wallet, "1.00")).json["id"])
        second = await take(1)
        await channel.queue_delete(queue)

    assert first + second == [f"transaction.completed {one}" for one in ids]


async def _is_read(connection: aio_pika.abc.AbstractConnection, queue: str) -> bool:
    channel = await connection.channel()
    try:
        found = (await channel.declare_queue(queue, passive=True)).declaration_result
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return False
    return bool(found.consumer_count)


async def test_the_sample_with_aio_pika_publishes(doors: Doors) -> None:
    await check_publishing(doors, sys.executable, SAMPLES / "publish.py")
