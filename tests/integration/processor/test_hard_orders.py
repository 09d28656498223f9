"""The order of transactions that refer to each other, between four partitions and two doors."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.topology import partition_of_wallet
from reconciler.schedule import LOOKUP_SESSION
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.processor.correspondents import ended
from tests.support import deposit, requested, transfer, withdrawal
from tools.stack import Stack
from verification.verify import verify

ROUNDS = 12
"""So many wallets that each of the partitions has some."""


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system of four partitions, whose books are clean after all of these cases."""
    directory: Path = tmp_path_factory.mktemp("system")
    async with open_doors(stack, template, directory, partitions=4) as opened:
        yield opened
        connection = await connect(opened.database_url, name="test", session=dict(LOOKUP_SESSION))
        report = await verify(connection, pending_max_s=300.0)
        await connection.close()
        assert report.findings == ()


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
            await asyncio.sleep(0.2)  # the batch of this one waits; what comes now is not in it
            original = await _accepted(
                api,
                {"type": "capture", "hold_id": hold}
                if kind == "capture"
                else transfer(source, destination, "5.00"),
            )
            body = {"type": "reversal", "reverses": original}
            key = uuid4().hex
            if door == "http":
                await api.submit(body, key=key, wait=None)
            else:
                await doors.upstream.publish(requested(body, key=key), routing_key=source)
            await asyncio.sleep(0.5)
    finally:
        await connection.close()
    assert await _end(api, before) == "COMPLETED"
    reversal = await ended(api, key)
    assert (reversal["status"], reversal["failure"]) == ("COMPLETED", None)
    assert await api.balance(source) == "100.00"
