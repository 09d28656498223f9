"""An upgrade as operators do it: process after process is replaced, and nobody stops sending."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.end_to_end.conftest import INSTANCES, Plant
from tests.end_to_end.load import OUTAGE_S, assert_all_is_final, loaded
from tests.support import deposit, eventually, requested

pytestmark = pytest.mark.long

MESSAGES_EACH: Final = 25


async def test_replacing_every_process_under_load_loses_nothing_at_either_door(
    plant: Plant,
) -> None:
    names = [instance.label for instance in INSTANCES]
    before = {name: plant.system.pid(name) for name in names}
    logged = {name: plant.system.log(name).stat().st_size for name in names}
    wallet = await plant.api.create_wallet()

    async def publish() -> None:
        for _ in range(MESSAGES_EACH):
            # Confirmed each: what the broker has taken must arrive.
            await upstream.publish(requested(deposit(wallet, "1.00")))

    async with loaded(plant.api) as load, plant.upstream() as upstream:
        for name in names:
            await load.more(20)
            await asyncio.gather(asyncio.to_thread(plant.system.restart, name), publish())
        await load.more(20)

    async def all_have_arrived() -> bool:
        return await plant.api.balance(wallet) == f"{len(names) * MESSAGES_EACH}.00"

    await eventually(all_have_arrived, what="every confirmed message", within_s=OUTAGE_S)
    after = {name: plant.system.pid(name) for name in names}
    assert [name for name in names if after[name] in (None, before[name])] == []
    # A process that is being replaced says so, or does not answer; it never answers with a fault.
    assert load.refusals <= {503}
    for name in names:
        text = _since(plant.system.log(name), logged[name])
        assert "Traceback" not in text, name
        assert "drain_timed_out" not in text, name
    await assert_all_is_final(plant.database_url, load.accepted)


def _since(log: Path, size: int) -> str:
    """What was logged since a log had this size; all of it, if a fresh file was begun."""
    content = log.read_bytes()
    return content[size if size <= len(content) else 0 :].decode()
