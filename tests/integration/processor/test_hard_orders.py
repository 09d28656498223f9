"""Hard cases between four partitions and two doors: order, crossing batches, largest amounts."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cli.assets import add_asset
from contracts.record import partition_of_wallet
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import ended
from tests.integration.processor.proven import proven_doors
from tests.support import deposit, eventually, requested, transfer, withdrawal
from tools.stack import Stack

ROUNDS = 12
"""So many wallets that each of the partitions has some."""


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system of four partitions, whose books are clean after all of these cases."""
    directory: Path = tmp_path_factory.mktemp("system")
    async with proven_doors(stack, template, directory, partitions=4) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(doors: CheckedDoors) -> CheckedApi:
    """The HTTP door."""
    return doors.api


def _hold(source: str, destination: str, amount: str) -> dict[str, Any]:
    return {
        "type": "hold",
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": amount,
        "currency": "USD",
    }


def _legs(*legs: tuple[str, str]) -> dict[str, Any]:
    named = [{"wallet_id": one, "amount": amount, "currency": "USD"} for one, amount in legs]
    return {"type": "journal", "legs": named}


async def _accepted(api: CheckedApi, body: dict[str, Any]) -> str:
    """Submit without waiting for the end, and return the id."""
    answer = await api.submit(body, wait=None)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


async def _end(api: CheckedApi, transaction: str) -> str:
    """Return the status that a transaction ended in, or why it FAILED."""
    answer = await api.call("GET", f"/v1/transactions/{transaction}", headers={"Prefer": "wait=20"})
    failure = answer.json["failure"]
    return str(failure["code"] if failure else answer.json["status"])


@pytest.mark.parametrize("kind", ["transfer", "deposit", "withdrawal", "journal", "capture"])
async def test_what_reverses_is_posted_after_what_it_reverses(api: CheckedApi, kind: str) -> None:
    async def once() -> tuple[str, str]:
        rich, poor = await api.create_wallet(), await api.create_wallet()
        await api.deposit(rich, "100.00")
        bodies = {
            "transfer": transfer(rich, poor, "5.00"),
            "deposit": deposit(rich, "5.00"),
            "withdrawal": withdrawal(rich, "5.00"),
            "journal": _legs((poor, "5.00"), (rich, "-5.00")),
        }
        if kind == "capture":
            hold = await _accepted(api, _hold(rich, poor, "5.00"))
            original = await _accepted(api, {"type": "capture", "hold_id": hold})
        else:
            original = await _accepted(api, bodies[kind])
        reversal = await _accepted(api, {"type": "reversal", "reverses": original})
        return await _end(api, reversal), await _end(api, original)

    ends = await asyncio.gather(*[once() for _ in range(ROUNDS)])
    assert ends == [("COMPLETED", "REVERSED")] * ROUNDS


_IS_WAITING = """
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
)
"""


async def _passed(seconds: float) -> None:
    """Let time pass by the clock, since it is time that decides here."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)

    async def is_past() -> bool:
        return datetime.now(UTC) >= until

    await eventually(is_past, what="time passes")


async def _wallet_of(api: CheckedApi, partition: int) -> str:
    """Return a wallet with 100.00 USD that a partition posts the debits of."""
    while True:
        wallet = await api.create_wallet()
        if partition_of_wallet(UUID(wallet), 4) == partition:
            await api.deposit(wallet, "100.00")
            return wallet


@pytest.mark.parametrize("door", ["http", "amqp"])
@pytest.mark.parametrize("kind", ["transfer", "capture"])
async def test_a_reversal_waits_for_what_it_reverses_however_slow_that_is(
    doors: CheckedDoors, api: CheckedApi, kind: str, door: str
) -> None:
    slow, source, destination = [await _wallet_of(api, one) for one in (1, 1, 2)]
    hold = await _accepted(api, _hold(source, destination, "5.00"))
    assert await _end(api, hold) == "COMPLETED"
    connection = await connect(doors.database_url, name="test")
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM wallets WHERE id = $1 FOR UPDATE", UUID(slow))
            before = await _accepted(api, withdrawal(slow, "1.00"))
            # The batch of this one waits; what comes now is not in it.
            await eventually(partial(connection.fetchval, _IS_WAITING), what="its batch waits")
            capture = {"type": "capture", "hold_id": hold}
            moved = transfer(source, destination, "5.00")
            original = await _accepted(api, capture if kind == "capture" else moved)
            body = {"type": "reversal", "reverses": original}
            key = uuid4().hex
            if door == "http":
                await api.submit(body, key=key, wait=None)
            else:
                await doors.upstream.publish(requested(body, key=key), routing_key=source)
            await _passed(0.5)
    finally:
        await connection.close()
    assert await _end(api, before) == "COMPLETED"
    reversal = await ended(api, key)
    assert (reversal["status"], reversal["failure"]) == ("COMPLETED", None)
    assert await api.balance(source) == "100.00"


async def test_a_hold_goes_before_what_uses_it(api: CheckedApi) -> None:
    async def once() -> list[str]:
        rich, poor = await api.create_wallet(), await api.create_wallet()
        await api.deposit(rich, "10.00")
        hold = await _accepted(api, _hold(rich, poor, "10.00"))
        capture = {"type": "capture", "hold_id": hold, "amount": "4.00", "final": False}
        bodies: list[dict[str, Any]] = [
            capture,
            {"type": "release", "hold_id": hold},
            transfer(rich, poor, "6.00"),
            {**capture, "amount": "1.00"},
        ]
        return [await _end(api, one) for one in [await _accepted(api, body) for body in bodies]]

    ends = await asyncio.gather(*[once() for _ in range(ROUNDS)])
    assert ends == [["COMPLETED", "COMPLETED", "COMPLETED", "hold_closed"]] * ROUNDS


async def test_atomic_batches_that_cross_are_whole_and_lose_nothing(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    wallets = [await _wallet_of(api, number % 4) for number in range(8)]
    chance = random.Random(12)

    def batch() -> list[dict[str, Any]]:
        pairs = [chance.sample(wallets, 2) for _ in range(6)]
        bodies = [
            transfer(source, destination, f"{chance.randint(1, 60)}.00")
            for source, destination in pairs
        ]
        return [{**body, "idempotency_key": uuid4().hex} for body in bodies]

    async def send(number: int, items: list[dict[str, Any]]) -> list[str]:
        body = {"mode": "atomic", "transactions": items}
        if number % 2:
            answer = await api.call("POST", "/v1/transactions/batch", json=body)
            assert answer.status == 202, answer.body
        else:
            routing_key = items[0]["source_wallet_id"]
            await doors.upstream.publish({"version": 1, **body}, routing_key=routing_key)
        found = [await ended(api, one["idempotency_key"], within_s=20.0) for one in items]
        return [one["failure"]["code"] if one["failure"] else one["status"] for one in found]

    outcomes = await asyncio.gather(*[send(number, batch()) for number in range(30)])
    assert {tuple(sorted(one)) for one in outcomes} <= {
        ("COMPLETED",) * 6,
        ("batch_failed",) * 5 + ("insufficient_funds",),
    }
    assert sum([Decimal(await api.balance(one)) for one in wallets]) == 800


async def test_a_processor_killed_among_batches_and_holds_posts_each_once(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    wallets = [await _wallet_of(api, number) for number in range(4)]
    batches: list[list[str]] = []
    plain: list[str] = []
    for number in range(60):
        source, destination = wallets[number % 4], wallets[(number * 3 + 1) % 4]
        bodies = [_hold(source, destination, "1.00"), transfer(source, destination, "1.00")]
        items = [{**body, "idempotency_key": uuid4().hex} for body in bodies]
        body = {"mode": "atomic", "transactions": items}
        answer = await api.call("POST", "/v1/transactions/batch", json=body)
        hold, moved = [one["transaction"]["id"] for one in answer.json["items"]]
        batches.append([hold, moved])
        plain.append(await _accepted(api, {"type": "capture", "hold_id": hold}))
        plain.append(await _accepted(api, {"type": "reversal", "reverses": moved}))
        if number in {20, 40}:
            doors.system.kill("processor")
            await asyncio.to_thread(doors.system.restart, "processor")
    assert [await _end(api, one) for one in plain] == ["COMPLETED"] * 120
    ends = [[await _end(api, one) for one in batch] for batch in batches]
    assert ends == [["COMPLETED", "REVERSED"]] * 60
    assert sum([Decimal(await api.balance(one)) for one in wallets]) == 400


async def test_what_is_cancelled_as_it_falls_due_is_posted_or_cancelled(api: CheckedApi) -> None:
    rich, poor = await _wallet_of(api, 0), await _wallet_of(api, 1)

    async def race(number: int) -> bool:
        due = datetime.now(UTC) + timedelta(seconds=1)
        body = {**transfer(rich, poor, "1.00"), "execute_at": due.isoformat()}
        transaction = await _accepted(api, body)
        await _passed(0.7 + 0.1 * number)
        cancelled = await api.call(
            "POST",
            f"/v1/transactions/{transaction}/cancel",
            headers={"Idempotency-Key": uuid4().hex},
        )
        is_cancelled = cancelled.status == 200
        assert is_cancelled or cancelled.code == "not_cancellable", cancelled.body
        assert await _end(api, transaction) == ("cancelled" if is_cancelled else "COMPLETED")
        return is_cancelled

    outcomes = await asyncio.gather(*[race(number) for number in range(ROUNDS)])
    assert await api.balance(poor) == f"{100 + outcomes.count(False)}.00"


async def test_a_hundred_legs_have_the_largest_amount(api: CheckedApi) -> None:
    giver, taker = [await api.create_wallet(kind="internal") for _ in range(2)]
    most = "10000000000000.00"
    answer = await api.submit(_legs(*[(giver, f"-{most}"), (taker, most)] * 50))
    assert answer.json["status"] == "COMPLETED", answer.json["failure"]
    assert await api.balance(giver) == "-500000000000000.00"
    back = await api.submit({"type": "reversal", "reverses": answer.json["id"]})
    assert back.json["status"] == "COMPLETED", back.json["failure"]
    assert [await api.balance(one) for one in (giver, taker)] == ["0.00", "0.00"]


async def test_twelve_decimals_are_exact_in_every_type(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    connection = await connect(doors.database_url, name="test")
    await add_asset(connection, "TINY12", 12, actor="test")
    await connection.close()

    async def is_known() -> bool:
        body = {"currency": "TINY12"}
        return (await api.call("POST", "/v1/wallets", json=body)).status == 201

    await eventually(is_known, what="the asset")
    rich, poor = await api.create_wallet("TINY12"), await api.create_wallet("TINY12")
    atom, most = "0.000000000001", "1000.000000000000"
    asset = {"currency": "TINY12"}
    await _done(api, {**deposit(rich, most), **asset})
    hold = await _done(api, {**_hold(rich, poor, most), **asset})
    part = {"type": "capture", "hold_id": hold, "amount": atom, "final": False}
    capture = await _done(api, part)
    finer = await api.submit({**part, "amount": "0.0000000000001"})
    assert (finer.status, finer.code) == (422, "validation_failed")
    await _done(api, {"type": "release", "hold_id": hold})
    legs = [{"wallet_id": rich, "amount": f"-{atom}"}, {"wallet_id": poor, "amount": atom}]
    left = {"wallet_id": rich, "available_at_least": "999.999999999998"}
    journal = {"type": "journal", "legs": [{**leg, **asset} for leg in legs]}
    await _done(api, {**journal, "conditions": [left]})
    refused = await api.submit({**journal, "conditions": [left]})
    assert refused.json["failure"]["code"] == "condition_failed"
    await _done(api, {"type": "reversal", "reverses": capture, "amount": atom})
    assert [await api.balance(one) for one in (rich, poor)] == ["999.999999999999", atom]


async def test_a_tag_is_no_longer_good_once_a_hold_has_expired(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    rich, poor = await _wallet_of(api, 0), await _wallet_of(api, 1)
    path = f"/v1/wallets/{rich}"
    empty = (await api.get(path)).headers["ETag"]
    await asyncio.to_thread(doors.system.halt, "reconciler")
    try:
        hold = await _done(api, {**_hold(rich, poor, "7.00"), "expires_in_s": 1})
        changed = await api.call("GET", path, headers={"If-None-Match": empty})
        assert (changed.status, changed.json["held"]) == (200, "7.00")
        tag = changed.headers["ETag"]

        async def has_expired() -> bool:
            return bool((await api.get(path)).json["held"] == "0.00")

        await eventually(has_expired, what="the hold's end")
        again = await api.call("GET", path, headers={"If-None-Match": tag})
        assert (again.status, again.json["available"]) == (200, "100.00")
        stale = await api.call(
            "PATCH", path, headers={"If-Match": tag}, json={"metadata": {"a": "b"}}
        )
        assert stale.status == 412
        read = (await api.get(f"/v1/transactions/{hold}")).json["hold"]
        assert (read["status"], read["remaining"]) == ("EXPIRED", "0.00")
    finally:
        await asyncio.to_thread(doors.system.restart, "reconciler")


async def test_what_is_too_late_when_the_processor_is_back_fails_its_atomic_batch(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    rich, poor = await _wallet_of(api, 0), await _wallet_of(api, 1)
    await asyncio.to_thread(doors.system.halt, "processor")
    try:
        until = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        late = await _accepted(api, {**transfer(rich, poor, "1.00"), "valid_until": until})
        items = [{**transfer(rich, poor, "1.00"), "idempotency_key": uuid4().hex} for _ in range(3)]
        items[1]["valid_until"] = until
        body = {"mode": "atomic", "transactions": items}
        answer = await api.call("POST", "/v1/transactions/batch", json=body)
        assert answer.status == 202, answer.body
        await _passed(1.1)
    finally:
        await asyncio.to_thread(doors.system.restart, "processor")
    members = [one["transaction"]["id"] for one in answer.json["items"]]
    assert await _end(api, late) == "expired"
    codes = [await _end(api, one) for one in members]
    assert codes == ["batch_failed", "expired", "batch_failed"]
    assert await api.balance(poor) == "100.00"


async def test_an_atomic_batch_that_comes_by_both_doors_at_once_is_one(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    rich, poor = await _wallet_of(api, 0), await _wallet_of(api, 1)
    for _ in range(4):
        bodies = [transfer(rich, poor, "1.00"), _hold(poor, rich, "2.00"), deposit(poor, "3.00")]
        items = [{**body, "idempotency_key": uuid4().hex} for body in bodies]
        body = {"mode": "atomic", "transactions": items}
        answer, _ = await asyncio.gather(
            api.call("POST", "/v1/transactions/batch", json=body),
            doors.upstream.publish({"version": 1, **body}, routing_key=rich),
        )
        assert {one["status_code"] for one in answer.json["items"]} <= {200, 202}
        found = [await ended(api, one["idempotency_key"]) for one in items]
        assert [one["status"] for one in found] == ["COMPLETED"] * 3
        assert [one["transaction"]["id"] for one in answer.json["items"]] == [
            one["id"] for one in found
        ]
    assert [await api.balance(one) for one in (rich, poor)] == ["96.00", "116.00"]


async def test_a_capture_that_is_refused_leaves_the_hold_as_it_was(api: CheckedApi) -> None:
    rich, poor = await _wallet_of(api, 0), await _wallet_of(api, 1)
    closed = await api.create_wallet()
    await api.call("DELETE", f"/v1/wallets/{closed}")
    hold = await _done(api, _hold(rich, closed, "7.00"))
    await api.call("PATCH", f"/v1/wallets/{poor}", json={"status": "FROZEN"})
    capture = {"type": "capture", "hold_id": hold}
    bodies = [
        capture,
        {**capture, "destination_wallet_id": poor},
        {**capture, "destination_wallet_id": rich},
        {**capture, "destination_wallet_id": str(uuid4())},
        {**capture, "amount": "7.01"},
    ]
    ends = [await _end(api, await _accepted(api, body)) for body in bodies]
    assert ends == [
        "wallet_closed",
        "wallet_frozen",
        "same_wallet",
        "wallet_not_found",
        "amount_exceeds_hold",
    ]
    read = (await api.get(f"/v1/transactions/{hold}")).json["hold"]
    assert (read["status"], read["remaining"], read["captured"]) == ("OPEN", "7.00", "0.00")
    elsewhere = await _done(api, {**capture, "destination_wallet_id": await api.create_wallet()})
    assert (await api.get(f"/v1/transactions/{elsewhere}")).json["amount"] == "7.00"


async def _done(api: CheckedApi, body: dict[str, Any]) -> str:
    """Submit what has to be posted, and return its id."""
    answer = await api.submit(body)
    assert answer.status == 200, answer.body
    assert answer.json["status"] in {"COMPLETED", "REVERSED"}, answer.json
    return str(answer.json["id"])
