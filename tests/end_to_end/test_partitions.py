"""Four partitions: one order for each wallet, over both doors, across a restart of the broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import orjson
import pytest

from contracts.record import partition_of_wallet
from tests.conftest import create_database, drop_database
from tests.integration.processor.correspondents import listening
from tests.support import Api, Upstream, eventually, requested, withdrawal
from tools.stack import Stack, add_upstream_user, add_vhost, remove_vhost
from tools.system import System

pytestmark = pytest.mark.long

PARTITIONS = 4
WALLETS = 8
EACH = 8


@dataclass(frozen=True)
class _Divided:
    """A system of four partitions on servers that may be restarted."""

    stack: Stack
    system: System
    api: Api
    amqp_url: str
    upstream_url: str

    async def funded_wallets(self) -> list[str]:
        wallets = [await self.api.create_wallet() for _ in range(WALLETS)]
        for wallet in wallets:
            assert (await self.api.deposit(wallet, "100.00")).json["status"] == "COMPLETED"
        return wallets

    async def publish(self, wallets: Sequence[str], numbers: range) -> None:
        """Publish withdrawals for each wallet in turn, each confirmed before the next."""
        async with Upstream(self.upstream_url, user="demo") as upstream:
            for number in numbers:
                for wallet in wallets:
                    body = requested(withdrawal(wallet, "1.00"), key=f"{wallet}-{number}")
                    await upstream.publish(body, routing_key=wallet)

    async def posted_keys(self, wallet: str, count: int) -> list[str]:
        """Return the keys of a wallet's withdrawals in the order of its entries."""

        async def look() -> list[str] | None:
            found = await self.api.get(f"/v1/wallets/{wallet}/entries", limit="200")
            ids = [one["transaction_id"] for one in reversed(found.json["items"])][1:]
            return ids if len(ids) == count else None

        ids = await eventually(look, what=f"{count} entries of {wallet}", within_s=40)
        read = [await self.api.get(f"/v1/transactions/{one}") for one in ids]
        return [str(one.json["idempotency_key"]) for one in read]


@pytest.fixture(scope="module")
async def divided(
    own_stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[_Divided]:
    vhost = f"divided_{uuid4().hex[:8]}"
    amqp_url = await asyncio.to_thread(add_vhost, own_stack, vhost)
    upstream_url = await asyncio.to_thread(
        add_upstream_user, own_stack, "demo", "demo", vhost=vhost
    )
    database_url = await create_database(own_stack, "template1")
    system = System(
        environment={
            "DATABASE_URL": database_url,
            "AMQP_URL": amqp_url,
            "REDIS_URL": own_stack.redis.url,
            "ACKLEDGER_PARTITIONS": str(PARTITIONS),
            "ACKLEDGER_STALE_AFTER_S": "60",
        },
        directory=tmp_path_factory.mktemp("divided"),
        say=lambda _: None,
    )
    async with system, Api(system.http_url, system.api_key) as api:
        yield _Divided(own_stack, system, api, amqp_url, upstream_url)
    await drop_database(own_stack, database_url)
    await asyncio.to_thread(remove_vhost, own_stack, vhost)


async def test_a_restarted_broker_with_a_backlog_keeps_every_wallets_order(
    divided: _Divided,
) -> None:
    wallets = await divided.funded_wallets()
    assert len({partition_of_wallet(UUID(one), PARTITIONS) for one in wallets}) > 1
    await asyncio.to_thread(divided.system.halt, "processor")
    await divided.publish(wallets, range(EACH))
    await asyncio.to_thread(divided.stack.rabbitmq.stop)
    await asyncio.to_thread(divided.stack.rabbitmq.start)
    await divided.publish(wallets, range(EACH, 2 * EACH))
    await asyncio.to_thread(divided.system.restart, "processor")

    for wallet in wallets:
        expected = [f"{wallet}-{number}" for number in range(2 * EACH)]
        assert await divided.posted_keys(wallet, 2 * EACH) == expected


async def test_both_doors_of_one_submitter_land_in_one_order(divided: _Divided) -> None:
    wallets = await divided.funded_wallets()
    for number in range(0, 2 * EACH, 2):
        for wallet in wallets:
            key = f"{wallet}-{number}"
            answer = await divided.api.submit(withdrawal(wallet, "1.00"), key=key, wait=None)
            assert answer.status == 202
        await divided.publish(wallets, range(number + 1, number + 2))
        for wallet in wallets:
            # Recorded is accepted, for an upstream message: only then comes the next request.
            await _recorded(divided.api, f"{wallet}-{number + 1}")

    for wallet in wallets:
        expected = [f"{wallet}-{number}" for number in range(2 * EACH)]
        assert await divided.posted_keys(wallet, 2 * EACH) == expected


async def test_one_result_tells_of_every_transaction_wherever_it_was_posted(
    divided: _Divided,
) -> None:
    wallets = await divided.funded_wallets()
    items = [{"idempotency_key": f"{one}-result", **withdrawal(one, "1.00")} for one in wallets]
    async with (
        listening(divided.amqp_url, name=f"demo.{uuid4().hex}") as results,
        Upstream(divided.upstream_url, user="demo") as upstream,
    ):
        await upstream.publish(
            {"version": 1, "transactions": items}, routing_key=wallets[0], reply_to=results.name
        )
        result = orjson.loads((await results.next()).body)

    found = {one["idempotency_key"]: one["status"] for one in result["transactions"]}
    assert found == {f"{one}-result": "COMPLETED" for one in wallets}


async def _recorded(api: Api, key: str) -> None:
    async def look() -> bool:
        return bool((await api.get("/v1/transactions", idempotency_key=key)).json["items"])

    await eventually(look, what=f"{key} is recorded")
