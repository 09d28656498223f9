"""Processors that prefer partitions: each posts its own, and the other's while that one is gone."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from contracts.record import partition_of_wallet
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.support import Api, deposit, eventually, transfer
from tools.stack import Stack
from tools.system import Instance, Role

_PREFERS = "ACKLEDGER_PROCESSOR_PARTITIONS"
_PROCESSORS = ("processor-0", "processor-1")
_TRANSFERS = 10


@pytest.fixture
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system of two partitions, each preferred by one of two processors."""
    instances = (
        Instance(role=Role.INGRESS),
        *(
            Instance(role=Role.PROCESSOR, name=name, environment={_PREFERS: str(number)})
            for number, name in enumerate(_PROCESSORS)
        ),
        Instance(role=Role.RECONCILER),
    )
    directory = tmp_path_factory.mktemp("preferred")
    async with open_doors(stack, template, directory, instances=instances, partitions=2) as opened:
        yield opened


async def _wallet_of(doors: CheckedDoors, partition: int) -> str:
    """Return a new wallet with money, whose payments a partition posts."""
    while True:
        wallet = await doors.api.create_wallet()
        if partition_of_wallet(UUID(wallet), 2) == partition:
            await doors.api.submit(deposit(wallet, "100.00"))
            return wallet


async def _posted_by(doors: CheckedDoors, name: str) -> int:
    """Return how many transactions a process has counted since it started."""
    async with Api(doors.system.status_urls[name], None) as status:
        lines = (await status.get("/metrics")).body.decode().splitlines()
    counted = [one for one in lines if one.startswith("ackledger_processor_transactions_total{")]
    return sum(int(float(one.rpartition(" ")[2])) for one in counted)


async def _await_posted(doors: CheckedDoors, *names: str, together: int) -> list[int]:
    """Return what each process has posted, once it is so much together.

    A process counts after its commit, and a client may have its answer in between.
    """

    async def look() -> list[int] | None:
        posted = [await _posted_by(doors, name) for name in names]
        return posted if sum(posted) >= together else None

    return await eventually(look, what=f"{together} posted by {', '.join(names)}")


async def test_each_posts_the_partition_that_it_prefers_and_the_other_s_while_that_is_gone(
    doors: CheckedDoors,
) -> None:
    wallets = [await _wallet_of(doors, number) for number in range(2)]

    async def pay(partition: int) -> None:
        for _ in range(_TRANSFERS):
            answer = await doors.api.submit(
                transfer(wallets[partition], wallets[1 - partition], "1.00")
            )
            assert answer.json["status"] == "COMPLETED", answer.body

    first, second = _PROCESSORS
    start = await _await_posted(doors, first, second, together=2)
    await pay(0)
    after_first = await _await_posted(doors, first, second, together=2 + _TRANSFERS)
    assert after_first == [start[0] + _TRANSFERS, start[1]]
    await pay(1)
    after_second = await _await_posted(doors, first, second, together=2 + 2 * _TRANSFERS)
    assert after_second == [after_first[0], after_first[1] + _TRANSFERS]

    await asyncio.to_thread(doors.system.kill, first)
    await pay(0)
    alone = after_second[1] + _TRANSFERS
    assert await _await_posted(doors, second, together=alone) == [alone]

    # RabbitMQ heeds a consumer's priority among single active ones from 4.0 on.
    await asyncio.to_thread(doors.system.restart, first)
    has_it_back = not str(doors.stack.rabbitmq.version).startswith("3.")
    await pay(0)
    back = await _await_posted(doors, first, second, together=alone + _TRANSFERS)
    assert back == ([_TRANSFERS, alone] if has_it_back else [0, alone + _TRANSFERS])
