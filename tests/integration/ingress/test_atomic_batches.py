"""Atomic batches: recorded as a whole or not at all, replayed as a whole, posted as a whole."""

import asyncio
from typing import Any
from uuid import uuid4

from contracts.scopes import Scope
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import Answer, deposit, transfer


async def _send(api: CheckedApi, items: list[Any], mode: Any = "atomic") -> Answer:
    body = {"mode": mode, "transactions": items}
    return await api.call("POST", "/v1/transactions/batch", json=body)


def _keyed(body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    return {**body, "idempotency_key": key or uuid4().hex}


async def _ended(api: CheckedApi, answer: Answer) -> list[dict[str, Any]]:
    ids = [item["transaction"]["id"] for item in answer.json["items"]]
    paths = [f"/v1/transactions/{one}" for one in ids]
    answers = [await api.call("GET", path, headers={"Prefer": "wait=20"}) for path in paths]
    return [one.json for one in answers]


async def _found(api: CheckedApi, key: str) -> list[Any]:
    found: list[Any] = (await api.get("/v1/transactions", idempotency_key=key)).json["items"]
    return found


async def test_all_are_posted_together_and_share_a_batch(api: CheckedApi) -> None:
    alice, bob = await api.create_wallet(), await api.create_wallet()
    answer = await _send(
        api, [_keyed(deposit(alice, "10.00")), _keyed(transfer(alice, bob, "4.00"))]
    )
    ended = await _ended(api, answer)

    assert answer.status == 202
    assert [item["status_code"] for item in answer.json["items"]] == [202, 202]
    assert [one["status"] for one in ended] == ["COMPLETED"] * 2
    assert len({one["batch_id"] for one in ended}) == 1
    assert ended[0]["batch_id"] is not None
    assert len({one["completed_at"] for one in ended}) == 1
    assert (await api.balance(alice), await api.balance(bob)) == ("6.00", "4.00")


async def test_one_that_is_refused_fails_all(api: CheckedApi) -> None:
    alice, bob = await api.create_wallet(), await api.create_wallet()
    items = [
        _keyed(deposit(alice, "10.00")),
        _keyed(transfer(alice, bob, "11.00")),
        _keyed(deposit(bob, "1.00")),
    ]
    ended = await _ended(api, await _send(api, items))

    assert [one["failure"]["code"] for one in ended] == [
        "batch_failed", "insufficient_funds", "batch_failed",
    ]  # fmt: skip
    assert (await api.balance(alice), await api.balance(bob)) == ("0.00", "0.00")


async def test_an_invalid_item_refuses_the_whole_with_pointers(api: CheckedApi) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    answer = await _send(
        api,
        [
            _keyed(deposit(wallet, "1.00"), key),
            _keyed(deposit(wallet, "1.001")),
            deposit(wallet, "1.00"),
            _keyed({"type": "hold", "source_wallet_id": wallet}),
            "no object",
        ],
    )

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [
        "/transactions/1/amount",
        "/transactions/2/idempotency_key",
        "/transactions/3/amount",
        "/transactions/3/currency",
        "/transactions/4",
    ]
    assert await _found(api, key) == []


async def test_members_have_keys_and_times_that_go_together(api: CheckedApi, wallet: str) -> None:
    key = uuid4().hex
    twice = await _send(api, [_keyed(deposit(wallet, "1.00"), key) for _ in range(2)])
    apart = await _send(
        api,
        [
            _keyed(deposit(wallet, "1.00"), key),
            _keyed({**deposit(wallet, "1.00"), "execute_at": "2026-12-24T00:00:00Z"}),
        ],
    )

    assert [one.json["errors"][0]["pointer"] for one in (twice, apart)] == [
        "/transactions/1/idempotency_key",
        "/transactions/1/execute_at",
    ]
    assert await _found(api, key) == []


async def test_the_same_batch_again_is_a_replay_and_any_other_a_conflict(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    items = [_keyed(deposit(wallet, "1.00")) for _ in range(3)]
    extra = _keyed(deposit(wallet, "9.00"))
    first = await _send(api, items)
    again = await _send(api, items)
    others = [
        await _send(api, [*items, extra]),
        await _send(api, items[:2]),
        await _send(api, items[::-1]),
        await _send(api, [items[0], extra]),
    ]
    alone = await _send(api, [items[0], extra], mode="independent")

    assert [item["status_code"] for item in again.json["items"]] == [200] * 3
    assert [item["transaction"]["id"] for item in again.json["items"]] == [
        item["transaction"]["id"] for item in first.json["items"]
    ]
    assert {(one.status, one.code) for one in others} == {(422, "idempotency_key_reused")}
    assert [item["status_code"] for item in alone.json["items"]] == [422, 202]


async def test_a_refused_batch_records_nothing(api: CheckedApi, wallet: str) -> None:
    used, fresh = uuid4().hex, uuid4().hex
    await api.submit(deposit(wallet, "1.00"), key=used)
    answer = await _send(
        api, [_keyed(deposit(wallet, "1.00"), fresh), _keyed(deposit(wallet, "1.00"), used)]
    )

    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert await _found(api, fresh) == []


async def test_two_that_are_sent_at_once_are_one(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    items = [_keyed(deposit(wallet, "1.00")) for _ in range(200)]
    answers = await asyncio.gather(*(_send(api, items) for _ in range(6)))
    ids = {tuple(item["transaction"]["id"] for item in one.json["items"]) for one in answers}
    statuses = [{item["status_code"] for item in one.json["items"]} for one in answers]
    await _ended(api, answers[0])

    assert len(ids) == 1
    assert sorted(statuses, key=min) == [{200}] * 5 + [{202}]
    assert await api.balance(wallet) == "200.00"


async def test_cancelling_a_member_cancels_the_batch(api: CheckedApi, wallet: str) -> None:
    later = {**deposit(wallet, "1.00"), "execute_at": "2027-03-01T00:00:00Z"}
    made = await _send(api, [_keyed(later) for _ in range(3)])
    ids = [item["transaction"]["id"] for item in made.json["items"]]
    path = f"/v1/transactions/{ids[1]}/cancel"
    cancelled = await api.call("POST", path, headers={"Idempotency-Key": uuid4().hex})
    ended = await _ended(api, made)

    assert cancelled.status == 200
    assert [one["failure"]["code"] for one in ended] == [
        "batch_failed",
        "cancelled",
        "batch_failed",
    ]


async def test_force_without_the_scope_refuses_the_whole(make_client: MakeClient) -> None:
    clerk = await make_client(scopes=[Scope.TRANSACTIONS_WRITE])
    forced = {"type": "reversal", "reverses": str(uuid4()), "force": True}
    together = await _send(clerk, [_keyed(forced)])
    alone = await _send(clerk, [_keyed(forced)], mode="independent")

    assert (together.status, together.code) == (403, "insufficient_scope")
    assert [item["status_code"] for item in alone.json["items"]] == [403]


async def test_a_mode_is_one_of_two(api: CheckedApi, wallet: str) -> None:
    modes: list[Any] = ["x", None, []]
    answers = [await _send(api, [_keyed(deposit(wallet, "1"))], mode=one) for one in modes]

    assert {(one.status, one.json["errors"][0]["pointer"]) for one in answers} == {(422, "/mode")}
