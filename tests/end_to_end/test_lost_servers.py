"""A server goes away and comes back: what was promised is kept, and nobody restarts us."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from tests.end_to_end.conftest import Plant
from tests.end_to_end.load import assert_all_is_final, loaded
from tests.integration.ingress.serving import new_api_key
from tests.support import Answer, Api, deposit, eventually, requested, withdrawal
from tools.stack import Service

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("survivors")]


@asynccontextmanager
async def _away(service: Service) -> AsyncIterator[None]:
    """Kill a server, and start it again whatever happens."""
    await asyncio.to_thread(service.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(service.start)


async def _readiness(api: Api, wanted: str, *, within_s: float = 30.0) -> Answer:
    async def look() -> Answer | None:
        answer = await api.get("/readyz")
        return answer if answer.json["status"] == wanted else None

    return await eventually(look, what=f"readiness is {wanted}", within_s=within_s)


def _state(answer: Answer, name: str) -> str:
    return str(answer.json["dependencies"][name]["state"])


async def _entries(api: Api, wallet: str) -> list[dict[str, Any]]:
    found = (await api.get(f"/v1/wallets/{wallet}/entries", limit="200")).json["items"]
    return list(found)


def _pids(plant: Plant) -> dict[str, int | None]:
    names = ("ingress", "limited", "processor", "standby", "reconciler")
    return {name: plant.system.pid(name) for name in names}


async def _timed(call: Awaitable[Answer]) -> tuple[Answer, float]:
    """Return an answer and the seconds that it took."""
    started = time.monotonic()
    return await call, time.monotonic() - started


async def test_without_the_broker_all_is_accepted_and_posted_in_order_when_it_is_back(
    plant: Plant,
) -> None:
    api, wallet, pids = plant.api, await plant.api.create_wallet(), _pids(plant)
    await api.deposit(wallet, "1.00")
    bodies = [deposit(wallet, "1.00"), withdrawal(wallet, "2.00"), deposit(wallet, "1.00")] * 10
    async with _away(plant.stack.rabbitmq):
        degraded = await _readiness(api, "degraded")
        answers = [await _timed(api.submit(body, wait=None)) for body in bodies]
        waited, _ = await _timed(api.submit(deposit(wallet, "0.01"), wait=1))
        read = await api.get(waited.headers["Location"])
    ids = [answer.json["id"] for answer, _ in answers] + [waited.json["id"]]

    async def posted() -> bool:
        return len(await _entries(api, wallet)) == len(ids) + 1

    await eventually(posted, what="all is posted", within_s=40)
    order = [one["transaction_id"] for one in await _entries(api, wallet)]
    await _readiness(api, "ready")

    assert (degraded.status, _state(degraded, "broker")) == (200, "down")
    assert {answer.status for answer, _ in answers} == {202}
    assert max(seconds for _, seconds in answers) < 2.0
    assert (waited.status, waited.json["status"], read.json["status"]) == (
        202,
        "PENDING",
        "PENDING",
    )
    assert order[:-1] == ids[::-1]
    assert _pids(plant) == pids


async def test_a_broker_that_hangs_delays_no_submission_for_long(plant: Plant) -> None:
    api, wallet = plant.api, await plant.api.create_wallet()
    await asyncio.to_thread(plant.stack.rabbitmq.pause)
    try:
        results = await asyncio.gather(
            *(_timed(api.submit(deposit(wallet, "1.00"), wait=None)) for _ in range(20))
        )
    finally:
        await asyncio.to_thread(plant.stack.rabbitmq.resume)

    async def posted() -> bool:
        return await api.balance(wallet) == "20.00"

    await eventually(posted, what="all is posted", within_s=40)
    assert {answer.status for answer, _ in results} == {202}
    assert max(seconds for _, seconds in results) < 4.0


async def test_a_broker_that_dies_under_load_costs_nothing(plant: Plant) -> None:
    keys, pids = [uuid4().hex for _ in range(30)], _pids(plant)
    wallet = await plant.api.create_wallet()
    async with plant.upstream() as upstream:
        for key in keys:
            await upstream.publish(requested(deposit(wallet, "1.00"), key=key), routing_key=wallet)
    async with loaded(plant.api) as load:
        await load.more(50)
        async with _away(plant.stack.rabbitmq):
            await load.more(100)
        await load.more(50)

    assert load.refusals <= {503}
    assert _pids(plant) == pids
    await assert_all_is_final(plant.database_url, load.accepted)
    assert await plant.api.balance(wallet) == "30.00"


async def test_without_redis_no_answer_about_money_changes(plant: Plant) -> None:
    wallet, pids = await plant.api.create_wallet(), _pids(plant)
    async with (
        Api(plant.limited_url, plant.system.api_key) as limited,
        _away(plant.stack.redis),
    ):
        ready, _ = await _timed(limited.get("/readyz"))
        results = [await _timed(limited.submit(deposit(wallet, "1.00"))) for _ in range(12)]
        balance, took_s = await _timed(plant.api.get(f"/v1/wallets/{wallet}"))
        burst = await asyncio.gather(*(limited.get("/v1/wallets", limit="1") for _ in range(30)))
    posted = [answer for answer, _ in results if answer.status == 200]

    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert _state(ready, "redis") == "down"
    # The process counts by itself: five at once, and five a second.
    assert {answer.status for answer, _ in results} <= {200, 429}
    assert 429 in {answer.status for answer in burst} <= {200, 429}
    assert len(posted) >= 5
    assert {answer.json["status"] for answer in posted} == {"COMPLETED"}
    assert max(seconds for _, seconds in results) < 2.0
    assert (balance.json["balance"], took_s < 1.0) == (f"{len(posted)}.00", True)
    assert _pids(plant) == pids


async def test_a_redis_that_hangs_delays_no_answer_for_long(plant: Plant) -> None:
    wallet = await plant.api.create_wallet()
    await asyncio.to_thread(plant.stack.redis.pause)
    try:
        async with Api(plant.limited_url, plant.system.api_key) as limited:
            ready, ready_s = await _timed(limited.get("/readyz"))
            results = [await _timed(limited.submit(deposit(wallet, "1.00"))) for _ in range(5)]
    finally:
        await asyncio.to_thread(plant.stack.redis.resume)

    assert (ready.status, _state(ready, "redis")) == (200, "down")
    assert ready_s < 3.0
    assert {answer.status for answer, _ in results} <= {200, 429}
    assert max(seconds for _, seconds in results) < 2.0


async def test_too_many_requests_are_told_when_to_come_again(plant: Plant) -> None:
    # A client of its own, whose requests nobody has counted yet.
    key = await new_api_key(plant.database_url, f"c{uuid4().hex}")
    async with Api(plant.limited_url, key) as limited:
        answers = await asyncio.gather(*(limited.get("/v1/wallets", limit="1") for _ in range(30)))
        refused = [answer for answer in answers if answer.status == 429]
        wait_s = int(refused[0].headers["Retry-After"])

        async def allowed() -> Answer | None:
            answer = await limited.get("/v1/wallets", limit="1")
            return answer if answer.status == 200 else None

        again = await eventually(allowed, what="allowed again", within_s=wait_s + 1)
        free = [(await limited.get("/healthz")).status for _ in range(20)]

    assert {answer.status for answer in answers} == {200, 429}
    # A burst of five, and a second or two may pass meanwhile.
    assert 5 <= len(answers) - len(refused) <= 14
    assert {answer.code for answer in refused} == {"rate_limited"}
    assert wait_s >= 1
    assert {answer.headers["RateLimit-Limit"] for answer in [*answers, again]} == {"5"}
    assert {answer.headers["RateLimit-Remaining"] for answer in refused} == {"0"}
    assert set(free) == {200}


async def test_without_the_database_nothing_is_half_done_and_all_recovers_by_itself(
    plant: Plant,
) -> None:
    api, wallet, pids = plant.api, await plant.api.create_wallet(), _pids(plant)
    key, message_key = uuid4().hex, uuid4().hex
    async with plant.upstream() as upstream, _away(plant.stack.postgres):
        refused = [
            await api.submit(deposit(wallet, "1.00"), key=key, wait=None),
            await api.get(f"/v1/wallets/{wallet}"),
            await api.get("/v1/transactions", limit="1"),
            await api.call("POST", "/v1/wallets", json={"currency": "USD"}),
        ]
        not_ready = await api.get("/readyz")
        alive = await api.get("/healthz")
        message = requested(deposit(wallet, "2.00"), key=message_key)
        await upstream.publish(message, routing_key=wallet)

    async def accepted() -> Answer | None:
        answer = await api.submit(deposit(wallet, "1.00"), key=key)
        return answer if answer.status == 200 else None

    answer = await eventually(accepted, what="accepted again", within_s=30)

    async def posted() -> bool:
        return await api.balance(wallet) == "3.00"

    await eventually(posted, what="upstream's message is posted", within_s=30)
    await _readiness(api, "ready")
    assert {(one.status, one.code) for one in refused} == {(503, "database_unavailable")}
    assert {one.headers["Retry-After"] for one in refused} == {"1"}
    assert {one.headers["Content-Type"] for one in refused} == {"application/problem+json"}
    assert (not_ready.status, _state(not_ready, "database")) == (503, "down")
    assert alive.status == 200
    assert answer.json["status"] == "COMPLETED"
    assert _pids(plant) == pids


async def test_a_database_that_dies_under_load_loses_nothing_that_was_accepted(
    plant: Plant,
) -> None:
    pids = _pids(plant)
    async with loaded(plant.api) as load:
        for _ in range(3):
            await load.more(60)
            async with _away(plant.stack.postgres):
                pass
        await load.more(60)

    assert load.refusals <= {503}
    assert _pids(plant) == pids
    await assert_all_is_final(plant.database_url, load.accepted)


@pytest.mark.parametrize("number", [1, 2])
async def test_a_database_that_ends_every_session_is_hardly_noticed(
    plant: Plant, number: int
) -> None:
    wallet, pids = await plant.api.create_wallet(), _pids(plant)
    async with loaded(plant.api) as load:
        await load.more(40 * number)
        await asyncio.to_thread(plant.stack.postgres.stop)
        await asyncio.to_thread(plant.stack.postgres.start)
        await load.more(40)

    assert _pids(plant) == pids
    assert (await plant.api.deposit(wallet, "1.00")).json["status"] == "COMPLETED"
    await assert_all_is_final(plant.database_url, load.accepted)
