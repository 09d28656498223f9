"""Idempotency keys: named once, per submitter, for ever."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import Answer, deposit, transfer, withdrawal


async def _submit(api: CheckedApi, body: object, headers: dict[str, str] | None = None) -> Answer:
    return await api.call("POST", "/v1/transactions", json=body, headers=headers)


async def test_a_submission_without_a_key_is_refused(api: CheckedApi, wallet: str) -> None:
    answers = [
        await _submit(api, deposit(wallet, "1.00")),
        await _submit(api, deposit(wallet, "1.00"), {"Idempotency-Key": ""}),
        await _submit(api, {**deposit(wallet, "1.00"), "idempotency_key": ""}),
        await _submit(api, {**deposit(wallet, "1.00"), "idempotency_key": None}),
    ]

    assert {(answer.status, answer.code) for answer in answers} == {
        (400, "idempotency_key_missing")
    }


async def test_a_wallet_with_an_empty_key_is_refused_as_it_is_documented(api: CheckedApi) -> None:
    answer = await api.call(
        "POST", "/v1/wallets", json={"currency": "USD"}, headers={"Idempotency-Key": ""}
    )

    assert (answer.status, answer.code) == (400, "idempotency_key_missing")


@pytest.mark.parametrize("key", ["k" * 256, "two words", "schlüssel", "k\ty", "k" * 4000])
@pytest.mark.parametrize("place", ["header", "body"])
async def test_a_key_is_at_most_255_visible_ascii_characters(
    api: CheckedApi, wallet: str, place: str, key: str
) -> None:
    body = deposit(wallet, "1.00")
    if place == "header":
        answer = await _submit(api, body, {"Idempotency-Key": key})
        on_wallet = await api.call(
            "POST", "/v1/wallets", json={"currency": "USD"}, headers={"Idempotency-Key": key}
        )
        assert (on_wallet.status, on_wallet.code) == (400, "idempotency_key_invalid")
    else:
        answer = await _submit(api, {**body, "idempotency_key": key})

    assert (answer.status, answer.code) == (400, "idempotency_key_invalid")


async def test_a_key_of_255_characters_in_header_or_body_is_one_key(
    api: CheckedApi, wallet: str
) -> None:
    key = (uuid4().hex + "~!" * 200)[:255]
    body = deposit(wallet, "1.00")
    first = await _submit(api, body, {"Idempotency-Key": key})
    second = await _submit(api, {**body, "idempotency_key": key})
    third = await _submit(api, {**body, "idempotency_key": key}, {"Idempotency-Key": key})

    assert [first.status, second.status, third.status] == [202, 200, 200]
    assert first.json["idempotency_key"] == key
    assert len({answer.json["id"] for answer in (first, second, third)}) == 1


async def test_a_header_and_a_body_with_different_keys_are_refused(
    api: CheckedApi, wallet: str
) -> None:
    body = {**deposit(wallet, "1.00"), "idempotency_key": uuid4().hex}
    answer = await _submit(api, body, {"Idempotency-Key": uuid4().hex})

    assert (answer.status, answer.code) == (400, "idempotency_key_invalid")


async def test_a_key_that_is_no_text_points_at_its_field(api: CheckedApi, wallet: str) -> None:
    answer = await _submit(api, {**deposit(wallet, "1.00"), "idempotency_key": 7})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/idempotency_key"]


async def test_the_same_request_again_answers_with_the_first_one_as_it_is_now(
    api: CheckedApi,
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    first = await api.submit(deposit(wallet, "5.00"), key=key)
    again = await api.submit(deposit(wallet, "5.00"), key=key, wait=None)

    assert (first.status, again.status) == (200, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"/v1/transactions/{first.json['id']}"
    assert again.json == first.json
    assert await api.balance(wallet) == "5.00"


async def test_a_failed_transaction_is_replayed_as_failed_even_with_funds_by_then(
    api: CheckedApi,
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    first = await api.submit(withdrawal(wallet, "5.00"), key=key)
    await api.deposit(wallet, "5.00")
    again = await api.submit(withdrawal(wallet, "5.00"), key=key)

    assert (first.json["status"], again.json["status"]) == ("FAILED", "FAILED")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await api.balance(wallet) == "5.00"


async def test_the_same_content_in_other_words_is_the_same_content(api: CheckedApi) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    ways = [
        {**deposit(wallet, "5.00"), "metadata": {"b": 1, "a": [2]}},
        {**deposit(wallet, 5), "metadata": {"a": [2], "b": 1}},
        {**deposit(wallet.upper(), "5"), "metadata": {"a": [2], "b": 1}, "description": None},
    ]
    answers = [await api.submit(body, key=key) for body in ways]

    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "5.01"},
        {"currency": "EUR"},
        {"description": "other"},
        {"description": ""},
        {"metadata": {"a": 1}},
        {"type": "withdrawal", "destination_wallet_id": None, "source_wallet_id": "self"},
        {"destination_wallet_id": "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_used_key_with_other_content_is_a_conflict_and_moves_nothing(
    api: CheckedApi, change: dict[str, object]
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    await api.submit(deposit(wallet, "5.00"), key=key)
    changed = {
        name: wallet if value == "self" else value
        for name, value in {**deposit(wallet, "5.00"), **change}.items()
    }
    answer = await api.submit(changed, key=key)

    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert await api.balance(wallet) == "5.00"


async def test_a_hundred_submissions_of_one_key_at_once_make_one_transaction(
    api: CheckedApi,
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    answers = await asyncio.gather(
        *(api.submit(deposit(wallet, "1.00"), key=key) for _ in range(100))
    )

    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["id"] for answer in answers}) == 1
    replayed = Counter(answer.headers.get("Idempotency-Replayed") for answer in answers)
    assert replayed == {"true": 99, None: 1}
    assert await api.balance(wallet) == "1.00"


async def test_one_key_with_two_contents_at_once_is_one_transaction_and_conflicts(
    api: CheckedApi,
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    answers = await asyncio.gather(
        *(api.submit(deposit(wallet, f"{1 + number % 2}.00"), key=key) for number in range(40))
    )

    assert Counter(answer.status for answer in answers) == {200: 20, 422: 20}
    taken = {answer.json["amount"] for answer in answers if answer.status == 200}
    assert len(taken) == 1
    assert await api.balance(wallet) == taken.pop()


async def test_two_submitters_with_one_key_never_meet(
    api: CheckedApi, make_client: MakeClient
) -> None:
    other, key = await make_client(), uuid4().hex
    wallet = await api.create_wallet()
    mine = await api.submit(deposit(wallet, "1.00"), key=key)
    others = await other.submit(deposit(wallet, "2.00"), key=key)

    assert mine.json["id"] != others.json["id"]
    assert await api.balance(wallet) == "3.00"
    assert mine.json["submitter"] == "demo"
    for client, transaction in ((api, mine), (other, others)):
        found = (await client.get("/v1/transactions", idempotency_key=key)).json["items"]
        assert [one["id"] for one in found] == [transaction.json["id"]]


async def test_two_keys_of_one_client_are_one_submitter(make_client: MakeClient) -> None:
    name = f"shop-{uuid4().hex}"
    first, second = await make_client(name), await make_client(name)
    wallet, key = await first.create_wallet(), uuid4().hex
    one = await first.submit(deposit(wallet, "1.00"), key=key)
    two = await second.submit(deposit(wallet, "1.00"), key=key)

    assert one.json["id"] == two.json["id"]
    assert two.headers["Idempotency-Replayed"] == "true"


async def test_a_wallet_is_created_once_under_its_key(
    api: CheckedApi, make_client: MakeClient
) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    body = {"currency": "USD", "overdraft_limit": "10", "metadata": {"a": 1, "b": 2}}
    same = {"currency": "USD", "overdraft_limit": 10.0, "metadata": {"b": 2, "a": 1}}
    first = await api.call("POST", "/v1/wallets", json=body, headers=headers)
    await api.deposit(first.json["id"], "7.00")
    again = await api.call("POST", "/v1/wallets", json=same, headers=headers)
    other = await api.call("POST", "/v1/wallets", json={"currency": "EUR"}, headers=headers)
    stranger = await (await make_client()).call("POST", "/v1/wallets", json=body, headers=headers)

    assert [first.status, again.status, other.status, stranger.status] == [201, 200, 422, 201]
    assert (again.json["id"], again.json["balance"]) == (first.json["id"], "7.00")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"/v1/wallets/{first.json['id']}"
    assert other.code == "idempotency_key_reused"
    assert stranger.json["id"] != first.json["id"]


async def test_one_wallet_key_at_once_makes_one_wallet(api: CheckedApi) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(
        *(
            api.call("POST", "/v1/wallets", json={"currency": "USD"}, headers=headers)
            for _ in range(30)
        )
    )

    assert Counter(answer.status for answer in answers) == {201: 1, 200: 29}
    assert len({answer.json["id"] for answer in answers}) == 1


async def test_a_key_of_a_wallet_and_of_a_transaction_do_not_meet(api: CheckedApi) -> None:
    key = uuid4().hex
    wallet = await api.call(
        "POST", "/v1/wallets", json={"currency": "USD"}, headers={"Idempotency-Key": key}
    )
    paid = await api.submit(deposit(wallet.json["id"], "1.00"), key=key)

    assert paid.json["status"] == "COMPLETED"


async def test_a_transfer_with_one_key_moves_money_once_however_often_it_is_sent(
    api: CheckedApi,
) -> None:
    source, destination = await api.create_wallet(), await api.create_wallet()
    await api.deposit(source, "10.00")
    key = uuid4().hex
    await asyncio.gather(
        *(api.submit(transfer(source, destination, "3.00"), key=key, wait=None) for _ in range(20))
    )
    await api.submit(transfer(source, destination, "3.00"), key=key)

    assert [await api.balance(source), await api.balance(destination)] == ["7.00", "3.00"]
