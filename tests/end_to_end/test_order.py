"""One submitter's order over two ingresses, whatever happens to their links to the broker."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass

import pytest

from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.support import Api, eventually, requested, withdrawal
from tools.chaos.proxy import Proxy
from tools.stack import Stack
from tools.system import Instance, Role

ROUNDS = 12


@dataclass(frozen=True)
class _TwoIngresses:
    """A system whose first ingress reaches the broker through a proxy."""

    doors: CheckedDoors
    proxy: Proxy
    apis: Sequence[Api]

    async def funded_wallet(self) -> str:
        wallet = await self.doors.api.create_wallet("EUR")
        await self.doors.api.deposit(wallet, "1000.00", "EUR")
        return wallet

    async def accepted(self, api: Api, wallet: str) -> str:
        """Return the id of a withdrawal that has its 202."""
        answer = await api.submit(withdrawal(wallet, "1.00", "EUR"), wait=None)
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    async def sent_upstream(self, wallet: str, *, key: str) -> str:
        """Return the id of a withdrawal that was published to the broker, once it is recorded."""
        body = requested(withdrawal(wallet, "1.00", "EUR"), key=key)
        await self.doors.upstream.publish(body, routing_key=wallet)

        async def look() -> str | None:
            found = await self.doors.api.get("/v1/transactions", idempotency_key=key)
            return next((str(one["id"]) for one in found.json["items"]), None)

        return await eventually(look, what=key)

    async def posted(self, wallet: str, count: int) -> list[str]:
        """Return the last `count` transactions of a wallet, in the order of its entries."""

        async def look() -> list[str] | None:
            found = await self.doors.api.get(f"/v1/wallets/{wallet}/entries", limit="200")
            ids = [one["transaction_id"] for one in reversed(found.json["items"])][1:]
            return ids if len(ids) == count else None

        return await eventually(look, what=f"{count} entries")


@pytest.fixture(scope="module")
async def system(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[_TwoIngresses]:
    async with AsyncExitStack() as opened:
        proxy = await opened.enter_async_context(Proxy.to(stack.rabbitmq.url))

        def instances(amqp_url: str) -> list[Instance]:
            proxied = {"AMQP_URL": proxy.through(amqp_url)}
            return [
                Instance(role=Role.INGRESS, name="ingress-1", environment=proxied),
                Instance(role=Role.INGRESS, name="ingress-2"),
                Instance(role=Role.PROCESSOR),
            ]

        doors = await opened.enter_async_context(
            open_doors(
                stack,
                template,
                tmp_path_factory.mktemp("system"),
                instances=instances,
                settings={"ACKLEDGER_CONFIRM_TIMEOUT_S": "0.2"},
            )
        )
        apis = [
            await opened.enter_async_context(Api(url, doors.system.api_key))
            for url in doors.system.http_urls.values()
        ]
        yield _TwoIngresses(doors, proxy, apis)


_FAULTS: dict[str, Callable[[Proxy], AbstractContextManager[None]]] = {
    "a link that is cut": Proxy.refusing,
    "a link that swallows everything": Proxy.silent,
    "a link that loses the confirms": Proxy.swallowing_answers,
}


@pytest.mark.parametrize("fault", _FAULTS.values(), ids=_FAULTS)
async def test_a_202_without_a_confirm_is_not_overtaken_through_another_ingress(
    system: _TwoIngresses, fault: Callable[[Proxy], AbstractContextManager[None]]
) -> None:
    wallet = await system.funded_wallet()
    with fault(system.proxy):
        accepted = [
            await system.accepted(system.apis[number % 2], wallet) for number in range(2 * ROUNDS)
        ]

    assert await system.posted(wallet, len(accepted)) == accepted


async def test_an_upstream_message_does_not_overtake_a_202_of_its_sender(
    system: _TwoIngresses,
) -> None:
    wallet = await system.funded_wallet()
    accepted = []
    with system.proxy.refusing():
        for number in range(ROUNDS):
            accepted.append(await system.accepted(system.apis[0], wallet))
            accepted.append(await system.sent_upstream(wallet, key=f"{wallet}-{number}"))

    assert await system.posted(wallet, len(accepted)) == accepted


async def test_what_only_the_database_knows_of_is_posted_in_its_place(
    system: _TwoIngresses,
) -> None:
    wallet = await system.funded_wallet()
    with system.proxy.refusing():
        first = await system.accepted(system.apis[0], wallet)
        second = await system.accepted(system.apis[1], wallet)
        # The second is in the queue; the first only in the database.
        assert await system.posted(wallet, 2) == [first, second]
