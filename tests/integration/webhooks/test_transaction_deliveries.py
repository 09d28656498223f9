"""The webhooks that were told of one transaction, and what was sent to each."""

from typing import Any
from uuid import uuid4

from contracts.scopes import Reach
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.integration.webhooks.calls import deliveries_of, make_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.support import deposit, eventually, transfer


async def _told(api: CheckedApi, transaction_id: str, limit: str = "200") -> list[str]:
    found: list[str] = []
    query = {"transaction_id": transaction_id, "limit": limit}
    while True:
        page = (await api.get("/v1/webhooks", **query)).json
        found += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def test_webhooks_and_deliveries_are_found_by_the_transaction(
    make_client: MakeClient, receiver: Receiver
) -> None:
    operator = await make_client(reach=Reach.ALL)
    us, them = await make_client(reach=Reach.OWN), await make_client(reach=Reach.OWN)
    ours, theirs = await us.create_wallet(), await them.create_wallet()
    hooks = [
        (await make_webhook(api, f"{receiver.url}/{name}"))["id"]
        for api, name in ((us, "ours"), (them, "theirs"))
    ]
    # What clients write may look like an id of ours.
    misleading = {"id": str(uuid4()), "text": '"id":"' + str(uuid4()) + '"'}
    alone = (await us.submit({**deposit(ours, "9.00"), "metadata": misleading})).json["id"]
    shared = (await us.submit({**transfer(ours, theirs, "1.00"), "metadata": misleading})).json

    async def all_told() -> bool:
        told = await _told(operator, shared["id"])
        return set(hooks) <= set(told) and hooks[0] in await _told(operator, alone)

    await eventually(all_told, what="each webhook has its deliveries")

    # Other tests have webhooks that get everything.
    told = await _told(operator, shared["id"])
    assert [one for one in told if one in hooks] == hooks
    assert hooks[1] not in await _told(operator, alone)
    assert await _told(operator, shared["id"], limit="1") == told
    assert await _told(us, shared["id"]) == hooks[:1]
    assert await _told(them, shared["id"]) == hooks[1:]
    assert await _told(them, alone) == []
    for nobodys in (misleading["id"], str(uuid4())):
        assert await _told(operator, nobodys) == []
    await _check_deliveries(operator, shared["id"], hooks[0])


async def _check_deliveries(api: CheckedApi, transaction_id: str, webhook_id: str) -> None:
    about = {"transaction_id": transaction_id}

    async def delivered() -> list[Any]:
        return await deliveries_of(api, webhook_id, **about, status="DELIVERED")

    [delivery] = await eventually(delivered, what="it is delivered")
    assert delivery["event_type"] == "transaction.completed"
    assert delivery["transaction_id"] == transaction_id
    assert await deliveries_of(api, webhook_id, **about) == [delivery]
    assert await deliveries_of(api, webhook_id, **about, status="FAILED") == []
    assert delivery in await deliveries_of(api, webhook_id)
    assert await deliveries_of(api, webhook_id, transaction_id=str(uuid4())) == []
