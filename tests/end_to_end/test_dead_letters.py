"""Dead letters while PostgreSQL is away: none is lost, and operators are told to come again."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from contracts.topology import DEAD_LETTERS
from runtime.amqp.connection import close, connect, open_channel
from runtime.amqp.topology import check_queue
from tests.end_to_end.conftest import Plant
from tests.support import Answer, eventually

pytestmark = pytest.mark.usefixtures("survivors")

COUNT = 40


async def _listed(plant: Plant, mark: str) -> list[dict[str, Any]]:
    answer = await plant.api.get("/v1/dead-letters", reason="not_json", limit="200")
    return [one for one in answer.json["items"] if one["body"].startswith(mark)]


async def _asked(plant: Plant) -> list[Answer]:
    path = "/v1/dead-letters"
    return [
        await plant.api.get(path),
        await plant.api.get(f"{path}/summary"),
        await plant.api.get(f"{path}/{uuid4()}"),
        await plant.api.call("POST", f"{path}/{uuid4()}/replay"),
        await plant.api.call("POST", f"{path}/discard", params={"submitter": "nobody"}),
    ]


async def test_dead_letters_wait_on_the_broker_for_the_database_and_each_is_stored_once(
    plant: Plant,
) -> None:
    mark = f"poison-{uuid4().hex}-"
    async with plant.upstream() as upstream:
        # The processor has to know the broker's queue before the database goes.
        await upstream.publish(f"{mark}first".encode())

        async def first() -> bool:
            return len(await _listed(plant, mark)) == 1

        await eventually(first, what="the first is listed")
        await asyncio.to_thread(plant.stack.postgres.kill)
        try:
            for number in range(COUNT):
                await upstream.publish(f"{mark}{number}".encode())
            answers = await _asked(plant)
        finally:
            await asyncio.to_thread(plant.stack.postgres.start)

        async def stored() -> list[dict[str, Any]]:
            found = await _listed(plant, mark) if await _is_back(plant) else []
            return found if len(found) == COUNT + 1 else []

        found = await eventually(stored, what="all are listed", within_s=40)

        await _await_drained(plant)

    bodies = sorted(one["body"] for one in found)
    assert bodies == sorted([f"{mark}first", *(f"{mark}{number}" for number in range(COUNT))])
    assert len(await _listed(plant, mark)) == COUNT + 1
    assert {(one.status, one.code) for one in answers} == {(503, "database_unavailable")}
    assert all(int(one.headers["Retry-After"]) >= 1 for one in answers)


async def _await_drained(plant: Plant) -> None:
    """Return when the queue is empty; an upstream's user may not even ask (from 4.3 on)."""
    connection = await connect(plant.stack.rabbitmq.url, name="test")
    channel = await open_channel(connection)

    async def drained() -> bool:
        return await check_queue(channel, DEAD_LETTERS) == 0

    await eventually(drained, what="the queue is drained")
    await close(connection)


async def _is_back(plant: Plant) -> bool:
    return (await plant.api.get("/v1/dead-letters", limit="1")).status == 200
