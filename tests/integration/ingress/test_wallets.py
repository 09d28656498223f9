"""Wallets: created, read, listed and changed."""

import asyncio
from uuid import uuid4

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.support import Answer, deposit, transfer, withdrawal


async def _change(api: CheckedApi, wallet: str, **fields: object) -> Answer:
    return await api.call("PATCH", f"/v1/wallets/{wallet}", json=fields)


async def test_a_wallet_is_read_as_it_was_created(api: CheckedApi) -> None:
    body = {
        "currency": "KWD",
        "owner_id": "Kunde № 7",
        "overdraft_limit": "2.500",
        "metadata": {"b": [1, 2.5, None, True], "a": {"é": "\U0001f4b6"}},
    }
    created = await api.call("POST", "/v1/wallets", json=body)
    read = await api.get(created.headers["Location"])

    assert (created.status, read.status) == (201, 200)
    assert created.json == read.json
    assert {name: read.json[name] for name in body} == body
    assert (read.json["balance"], read.json["held"]) == ("0.000", "0.000")
    assert (read.json["available"], read.json["status"]) == ("2.500", "ACTIVE")
    assert read.json["version"] == 0


async def test_a_wallet_needs_nothing_but_its_currency(api: CheckedApi) -> None:
    wallet = await api.call("POST", "/v1/wallets", json={"currency": "JPY"})

    assert wallet.json["owner_id"] is None
    assert wallet.json["metadata"] == {}
    assert (wallet.json["balance"], wallet.json["overdraft_limit"]) == ("0", "0")


async def test_wallets_are_listed_the_oldest_first_without_gap_or_duplicate(
    api: CheckedApi,
) -> None:
    owner = uuid4().hex
    created = [await api.create_wallet(owner_id=owner) for _ in range(7)]
    for limit in ("1", "2", "3", "7", "8"):
        found: list[str] = []
        parameters = {"owner_id": owner, "limit": limit}
        while True:
            page = (await api.get("/v1/wallets", **parameters)).json
            assert len(page["items"]) <= int(limit)
            found += [one["id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            parameters["cursor"] = page["next_cursor"]
        assert found == created


async def test_filters_of_wallets_narrow_together(api: CheckedApi) -> None:
    owner = uuid4().hex
    euro = await api.create_wallet("EUR", owner_id=owner)
    frozen = await api.create_wallet("EUR", owner_id=owner)
    dollar = await api.create_wallet("USD", owner_id=owner)
    await _change(api, frozen, status="FROZEN")

    async def found(**filters: str) -> list[str]:
        page = await api.get("/v1/wallets", owner_id=owner, **filters)
        return [one["id"] for one in page.json["items"]]

    assert await found() == [euro, frozen, dollar]
    assert await found(currency="EUR") == [euro, frozen]
    assert await found(status="FROZEN") == [frozen]
    assert await found(currency="EUR", status="ACTIVE") == [euro]
    assert await found(currency="GBP") == []


async def test_a_list_of_all_wallets_shows_no_outside_wallet(api: CheckedApi) -> None:
    wallet = await api.create_wallet("DKK")
    await api.deposit(wallet, "1.00", "DKK")
    page = await api.get("/v1/wallets", currency="DKK", limit="200")

    assert [one["id"] for one in page.json["items"]] == [wallet]


async def test_a_frozen_wallet_moves_no_money_until_it_is_active_again(api: CheckedApi) -> None:
    frozen, other = await api.create_wallet(), await api.create_wallet()
    await api.deposit(frozen, "5.00")
    await api.deposit(other, "5.00")
    assert (await _change(api, frozen, status="FROZEN")).json["status"] == "FROZEN"
    refused = [
        await api.deposit(frozen, "1.00"),
        await api.submit(withdrawal(frozen, "1.00")),
        await api.submit(transfer(frozen, other, "1.00")),
        await api.submit(transfer(other, frozen, "1.00")),
    ]
    await _change(api, frozen, status="ACTIVE")
    paid = await api.submit(withdrawal(frozen, "1.00"))

    assert {one.json["failure"]["code"] for one in refused} == {"wallet_frozen"}
    assert paid.json["status"] == "COMPLETED"
    assert await api.balance(frozen) == "4.00"


async def test_a_wallet_is_closed_only_at_zero_and_stays_closed(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    await api.deposit(wallet, "0.01")
    early = await _change(api, wallet, status="CLOSED")
    await api.submit(withdrawal(wallet, "0.01"))
    closed = await _change(api, wallet, status="CLOSED")
    late = [
        await _change(api, wallet, status="ACTIVE"),
        await _change(api, wallet, metadata={"a": 1}),
        await _change(api, wallet, overdraft_limit="1"),
    ]
    paid = await api.deposit(wallet, "1.00")

    assert (early.status, early.code) == (409, "wallet_not_empty")
    assert (closed.status, closed.json["status"]) == (200, "CLOSED")
    assert {(answer.status, answer.code) for answer in late} == {(409, "wallet_closed")}
    assert paid.json["failure"]["code"] == "wallet_closed"


async def test_a_wallet_in_its_overdraft_is_not_closed(api: CheckedApi) -> None:
    wallet = await api.create_wallet(overdraft_limit="5")
    await api.submit(withdrawal(wallet, "1.00"))
    answer = await _change(api, wallet, status="CLOSED")

    assert (answer.status, answer.code) == (409, "wallet_not_empty")


async def test_an_overdraft_holds_to_the_last_cent(api: CheckedApi) -> None:
    wallet = await api.create_wallet(overdraft_limit="10.00")
    beyond = await api.submit(withdrawal(wallet, "10.01"))
    exactly = await api.submit(withdrawal(wallet, "10.00"))
    more = await api.submit(withdrawal(wallet, "0.01"))
    read = (await api.get(f"/v1/wallets/{wallet}")).json

    assert beyond.json["failure"]["code"] == "insufficient_funds"
    assert exactly.json["status"] == "COMPLETED"
    assert more.json["failure"]["code"] == "insufficient_funds"
    assert (read["balance"], read["available"], read["version"]) == ("-10.00", "0.00", 1)


async def test_an_overdraft_is_not_lowered_below_its_use(api: CheckedApi) -> None:
    wallet = await api.create_wallet(overdraft_limit="10.00")
    await api.submit(withdrawal(wallet, "4.00"))
    below = await _change(api, wallet, overdraft_limit="3.99")
    exactly = await _change(api, wallet, overdraft_limit="4.00")
    paid = await api.submit(withdrawal(wallet, "0.01"))

    assert (below.status, below.code) == (409, "overdraft_in_use")
    assert (exactly.status, exactly.json["available"]) == (200, "0.00")
    assert paid.json["failure"]["code"] == "insufficient_funds"


async def test_metadata_is_replaced_as_a_whole_and_the_rest_stays(api: CheckedApi) -> None:
    wallet = await api.create_wallet(
        owner_id="me", overdraft_limit="1.00", metadata={"old": 1, "kept": 2}
    )
    answer = await _change(api, wallet, metadata={"new": 3})

    assert answer.json["metadata"] == {"new": 3}
    assert (answer.json["owner_id"], answer.json["overdraft_limit"]) == ("me", "1.00")
    assert answer.json["updated_at"] > answer.json["created_at"]
    assert (await api.get(f"/v1/wallets/{wallet}")).json == answer.json


async def test_changes_under_payments_lose_neither(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    await asyncio.gather(
        *(api.submit(deposit(wallet, "1.00"), wait=None) for _ in range(30)),
        *(_change(api, wallet, metadata={"n": number}) for number in range(30)),
    )
    last = await api.deposit(wallet, "1.00")
    read = (await api.get(f"/v1/wallets/{wallet}")).json

    assert last.json["status"] == "COMPLETED"
    assert (read["balance"], read["version"]) == ("31.00", 31)


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "CLF"])
async def test_closing_and_depositing_at_once_never_leaves_money_in_a_closed_wallet(
    api: CheckedApi, currency: str
) -> None:
    wallet = await api.create_wallet(currency)
    closed, paid = await asyncio.gather(
        _change(api, wallet, status="CLOSED"), api.deposit(wallet, "1", currency)
    )
    if closed.status == 200:
        assert paid.json["failure"]["code"] == "wallet_closed"
    else:
        assert (closed.code, paid.json["status"]) == ("wallet_not_empty", "COMPLETED")
