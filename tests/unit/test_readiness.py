"""Readiness: what a process depends on, looked up once however many ask."""

import asyncio

from runtime.service.status_server import DependencyState, Readiness


async def test_a_crowd_that_asks_at_once_is_one_look() -> None:
    looks = 0
    looked = asyncio.Event()

    async def check() -> DependencyState:
        nonlocal looks
        looks += 1
        await looked.wait()
        return DependencyState(is_up=looks == 1)

    readiness = Readiness({"database": check})
    asking = [asyncio.create_task(readiness.read()) for _ in range(100)]
    await asyncio.sleep(0)
    asking[0].cancel()
    looked.set()
    answers = await asyncio.gather(*asking[1:])
    later = await readiness.read()

    assert all(answer["database"].is_up for answer in answers)
    assert not later["database"].is_up
    assert looks == 2
