"""Our own processes die or are stopped under load: everything accepted still ends, once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.end_to_end.conftest import Plant
from tests.end_to_end.load import OUTAGE_S, assert_all_is_final, loaded
from tests.support import deposit, eventually

pytestmark = pytest.mark.usefixtures("survivors")


@asynccontextmanager
async def _dead(plant: Plant, *names: str) -> AsyncIterator[None]:
    """Kill instances, and start them again whatever happens."""
    for name in names:
        await asyncio.to_thread(plant.system.kill, name)
    try:
        yield
    finally:
        for name in names:
            await asyncio.to_thread(plant.system.restart, name)


async def test_the_standby_takes_over_from_a_killed_processor(plant: Plant) -> None:
    wallet = await plant.api.create_wallet()
    async with loaded(plant.api) as load:
        for name in ("processor", "standby", "processor"):
            await load.more(40)
            async with _dead(plant, name):
                posted = await plant.api.submit(deposit(wallet, "1.00"), wait=30)
                assert posted.json["status"] == "COMPLETED", name

    await assert_all_is_final(plant.database_url, load.accepted)
    assert await plant.api.balance(wallet) == "3.00"


async def test_all_processors_killed_under_load_finish_when_they_are_back(plant: Plant) -> None:
    async with loaded(plant.api) as load:
        await load.more(100)
        async with _dead(plant, "processor", "standby"):
            await load.more(100)

    assert load.refusals == set()
    await assert_all_is_final(plant.database_url, load.accepted)


async def test_an_ingress_killed_under_load_keeps_all_that_it_accepted(plant: Plant) -> None:
    async with loaded(plant.api) as load:
        for _ in range(2):
            await load.more(80)
            async with _dead(plant, "ingress"):
                pass
        await load.more(20)

    await assert_all_is_final(plant.database_url, load.accepted)


async def test_an_ingress_stopped_under_load_answers_what_it_has_in_hand(plant: Plant) -> None:
    async with loaded(plant.api) as load:
        await load.more(80)
        await asyncio.to_thread(plant.system.halt, "ingress")
        log = plant.system.log("ingress").read_text()
        await asyncio.to_thread(plant.system.restart, "ingress")
        await load.more(20)

    assert load.refusals <= {503}
    assert "service_stopped" in log
    assert "drain_timed_out" not in log
    await assert_all_is_final(plant.database_url, load.accepted)


async def test_everything_killed_at_once_ends_well(plant: Plant) -> None:
    names = ("ingress", "processor", "standby", "reconciler")
    async with loaded(plant.api) as load:
        await load.more(100)
        async with _dead(plant, *names):
            pass
        await load.more(20)

    await assert_all_is_final(plant.database_url, load.accepted)


@pytest.fixture
def processor_environment(plant: Plant) -> dict[str, str]:
    """What a processor of the test's own needs."""
    return {
        "DATABASE_URL": plant.stack.postgres.url,
        "AMQP_URL": plant.stack.rabbitmq.url,
        "ACKLEDGER_STATUS_PORT": "0",
    }


async def test_sigterm_under_load_is_clean(
    plant: Plant, processor_environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("processor", "standby"):
        await asyncio.to_thread(plant.system.halt, name)
    log = tmp_path / "own.log"
    with log.open("wb") as output:
        own = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "processor", env=processor_environment, stderr=output
        )

    async def has_started() -> bool:
        return "service_started" in await asyncio.to_thread(log.read_text)

    try:
        async with loaded(plant.api) as load:
            # Before that there would be nothing to end cleanly.
            await eventually(has_started, what="it works", within_s=OUTAGE_S)
            await load.more(150)
            own.terminate()
            async with asyncio.timeout(20):
                code = await own.wait()
            await load.more(20)
            for name in ("processor", "standby"):
                await asyncio.to_thread(plant.system.restart, name)
    finally:
        if own.returncode is None:
            own.kill()
            await own.wait()
        for name in ("processor", "standby"):
            if plant.system.pid(name) is None:
                await asyncio.to_thread(plant.system.restart, name)

    text = log.read_text()
    assert code == 0, text[-2000:]
    assert "service_stopped" in text
    assert "drain_timed_out" not in text
    assert "Traceback" not in text
    await assert_all_is_final(plant.database_url, load.accepted)


async def test_what_nobody_announced_is_found_by_the_reconciler(plant: Plant) -> None:
    """An ingress that dies between its commit and its message leaves rows that nobody knows of."""
    wallet = await plant.api.create_wallet()
    answers = []
    async with _dead(plant, "ingress"):
        pass
    await asyncio.to_thread(plant.stack.rabbitmq.kill)
    try:
        for _ in range(10):
            body = deposit(wallet, "1.00")
            answers.append(await plant.api.submit(body, key=uuid4().hex, wait=None))
        await asyncio.to_thread(plant.system.kill, "ingress")
    finally:
        await asyncio.to_thread(plant.stack.rabbitmq.start)
        await asyncio.to_thread(plant.system.restart, "ingress")

    async def posted() -> bool:
        return await plant.api.balance(wallet) == "10.00"

    assert {answer.status for answer in answers} == {202}
    await eventually(posted, what="the reconciler announced them", within_s=40)
