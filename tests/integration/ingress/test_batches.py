"""Batches: each item is answered by itself, in its place."""

import asyncio
from typing import Any
from uuid import uuid4

from tests.integration.ingress.document import CheckedApi
from tests.support import Answer, deposit, eventually, transfer, withdrawal


async def _send(api: CheckedApi, items: list[Any]) -> Answer:
    return await api.call("POST", "/v1/transactions/batch", json={"transactions": items})


def _keyed(body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    return {**body, "idempotency_key": key or uuid4().hex}


async def _awaited(api: CheckedApi, item: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/transactions/{item['transaction']['id']}"
    found: dict[str, Any] = (await api.call("GET", path, headers={"Prefer": "wait=20"})).json
    return found


async def test_good_bad_reused_and_replayed_items_are_answered_in_their_order(
    api: CheckedApi,
) -> None:
    wallet = await api.create_wallet()
    known, twin = uuid4().hex, uuid4().hex
    first = await api.submit(deposit(wallet, "1.00"), key=known)
    answer = await _send(
        api,
        [
            _keyed(deposit(wallet, "2.00")),
            _keyed(deposit(wallet, "-2.00")),
            _keyed(deposit(wallet, "1.00"), known),
            _keyed(deposit(wallet, "9.00"), known),
            deposit(wallet, "3.00"),
            _keyed(deposit(wallet, "4.00"), twin),
            _keyed(deposit(wallet, "4.00"), twin),
            _keyed(deposit(wallet, "5.00"), twin),
            "no object",
            {"idempotency_key": "k" * 256, **deposit(wallet, "3.00")},
            _keyed(withdrawal(str(uuid4()), "1.00")),
        ],
    )
    items = answer.json["items"]
    codes = [item.get("problem", {}).get("code") for item in items]

    assert answer.status == 202
    assert [item["status_code"] for item in items] == [
        202, 422, 200, 422, 400, 202, 200, 422, 422, 400, 202,
    ]  # fmt: skip
    assert codes == [
        None, "validation_failed", None, "idempotency_key_reused", "idempotency_key_missing",
        None, None, "idempotency_key_reused", "validation_failed", "idempotency_key_invalid", None,
    ]  # fmt: skip
    assert items[2]["transaction"] == first.json
    assert items[5]["transaction"]["id"] == items[6]["transaction"]["id"]
    assert items[1]["problem"]["request_id"] == answer.headers["X-Request-Id"]
    assert (await _awaited(api, items[10]))["failure"]["code"] == "wallet_not_found"
    assert await api.balance(wallet) == "7.00"


async def test_a_batch_without_one_good_item_is_answered_too(api: CheckedApi) -> None:
    answer = await _send(api, [{}, None, 7, [], "x"])

    assert answer.status == 202
    assert [item["status_code"] for item in answer.json["items"]] == [422] * 5


async def test_problems_of_items_point_into_the_item(api: CheckedApi, wallet: str) -> None:
    answer = await _send(api, [_keyed(deposit(wallet, "1.00")), _keyed(deposit(wallet, "x"))])
    problem = answer.json["items"][1]["problem"]

    assert [error["pointer"] for error in problem["errors"]] == ["/amount"]
    assert problem["instance"] == "/v1/transactions/batch"


async def _pay_out(api: CheckedApi) -> None:
    """Send a thousand items of which the first half spends all that there is."""
    source, destination = await api.create_wallet(), await api.create_wallet()
    items = [_keyed(deposit(source, "499.00"))]
    items += [_keyed(transfer(source, destination, "1.00")) for _ in range(999)]
    accepted = (await _send(api, items)).json["items"]
    ended = [await _awaited(api, accepted[number]) for number in (999, 0, 1, 498, 499, 500, 501)]
    ids = [item["transaction"]["id"] for item in accepted]

    assert {item["status_code"] for item in accepted} == {202}
    assert [one["status"] for one in ended] == [
        "FAILED", *["COMPLETED"] * 4, *["FAILED"] * 2,
    ]  # fmt: skip
    assert await api.balance(destination) == "499.00"
    assert ids == sorted(ids)


async def test_a_thousand_items_are_posted_in_their_order(api: CheckedApi) -> None:
    """Whatever else is under way: three at once, three times."""
    for _ in range(3):
        await asyncio.gather(*(_pay_out(api) for _ in range(3)))


async def test_the_same_batch_again_is_all_replays_and_moves_nothing(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    items = [_keyed(deposit(wallet, "1.00")) for _ in range(50)]
    first, second = await asyncio.gather(_send(api, items), _send(api, items))
    third = await _send(api, items)
    statuses = sorted(
        item["status_code"] for answer in (first, second) for item in answer.json["items"]
    )

    async def all_posted() -> bool:
        return await api.balance(wallet) == "50.00"

    assert statuses == [200] * 50 + [202] * 50
    assert {item["status_code"] for item in third.json["items"]} == {200}
    await eventually(all_posted, what="every item is posted once")
