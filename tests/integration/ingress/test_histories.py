"""A wallet's history: its entries and its balance at any moment."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.support import deposit, transfer, withdrawal

_TICK = timedelta(microseconds=1)


def _moved(moment: str, by: timedelta) -> str:
    return (datetime.fromisoformat(moment) + by).isoformat()


async def _entries(api: CheckedApi, wallet: str, **filters: str) -> list[dict[str, Any]]:
    """Return every entry that passes, page by page."""
    found: list[dict[str, Any]] = []
    parameters = dict(filters)
    while True:
        page = (await api.get(f"/v1/wallets/{wallet}/entries", **parameters)).json
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


@pytest.fixture(scope="module")
async def history(api: CheckedApi) -> tuple[str, list[dict[str, Any]]]:
    """A wallet with eleven transactions, and those in their order."""
    wallet, other = await api.create_wallet(), await api.create_wallet()
    bodies = [deposit(wallet, "100.00")]
    for number in range(1, 6):
        bodies.append({**transfer(wallet, other, f"{number}.50"), "description": f"n{number}"})
        bodies.append(withdrawal(wallet, f"{number}.00"))
    answers = [await api.submit(body) for body in bodies]
    refused = await api.submit(withdrawal(wallet, "1000.00"))
    assert refused.json["status"] == "FAILED"
    return wallet, [answer.json for answer in answers]


History = tuple[str, list[dict[str, Any]]]


async def test_entries_come_newest_first_and_chain_without_a_gap(
    api: CheckedApi, history: History
) -> None:
    wallet, transactions = history
    entries = await _entries(api, wallet)

    assert [one["transaction_id"] for one in entries] == [one["id"] for one in transactions][::-1]
    assert [one["sequence"] for one in entries] == list(range(11, 0, -1))
    for newer, older in pairwise(entries):
        assert newer["balance_before"] == older["balance_after"]
        assert newer["created_at"] >= older["created_at"]
    for one in entries:
        before, amount = Decimal(one["balance_before"]), Decimal(one["amount"])
        assert before + amount == Decimal(one["balance_after"])
    assert entries[0]["balance_after"] == await api.balance(wallet)
    assert entries[1]["description"] == "n5"


@pytest.mark.parametrize("limit", ["1", "2", "3", "10", "11", "12", "200"])
async def test_pages_of_entries_have_no_gap_and_no_duplicate(
    api: CheckedApi, history: History, limit: str
) -> None:
    entries = await _entries(api, history[0], limit=limit)

    assert [one["sequence"] for one in entries] == list(range(11, 0, -1))


@pytest.mark.parametrize(
    ("kind", "expected"), [("deposit", 1), ("transfer", 5), ("withdrawal", 5), ("reversal", 0)]
)
@pytest.mark.parametrize("limit", ["2", "50"])
async def test_entries_of_one_type(
    api: CheckedApi, history: History, kind: str, expected: int, limit: str
) -> None:
    entries = await _entries(api, history[0], type=kind, limit=limit)

    assert len(entries) == expected
    assert {one["type"] for one in entries} <= {kind}


async def test_from_is_included_and_to_is_not(api: CheckedApi, history: History) -> None:
    wallet, transactions = history
    moments = [one["completed_at"] for one in transactions]
    start, end = moments[3], moments[7]
    within = await _entries(api, wallet, **{"from": start, "to": end, "limit": "2"})
    just = await _entries(api, wallet, **{"from": start, "to": _moved(start, _TICK)})
    after = await _entries(api, wallet, **{"from": _moved(moments[-1], _TICK)})

    assert [one["sequence"] for one in within] == [7, 6, 5, 4]
    assert [one["sequence"] for one in just] == [4]
    assert after == []


async def test_a_moment_may_have_any_offset(api: CheckedApi, history: History) -> None:
    wallet, transactions = history
    utc = datetime.fromisoformat(transactions[3]["completed_at"])
    local = (utc + timedelta(hours=5, minutes=30)).replace(tzinfo=None).isoformat() + "+05:30"
    entries = await _entries(api, wallet, **{"from": local})

    assert len(entries) == 8


async def test_entries_that_arrive_between_pages_disturb_none(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    for _ in range(4):
        await api.deposit(wallet, "1.00")
    path = f"/v1/wallets/{wallet}/entries"
    first = (await api.get(path, limit="2")).json
    await api.deposit(wallet, "1.00")
    second = (await api.get(path, limit="2", cursor=first["next_cursor"])).json

    assert [one["sequence"] for one in first["items"] + second["items"]] == [4, 3, 2, 1]


async def test_the_balance_at_a_moment_is_that_of_its_last_entry(
    api: CheckedApi, history: History
) -> None:
    wallet, transactions = history
    for number, transaction in enumerate(transactions):
        moment = transaction["completed_at"]
        legs = [one for one in transaction["entries"] if one["wallet_id"] == wallet]
        at = await api.get(f"/v1/wallets/{wallet}/balance", at=moment)
        before = await api.get(f"/v1/wallets/{wallet}/balance", at=_moved(moment, -_TICK))
        assert at.json == {"balance": legs[0]["balance_after"], "at": moment}, number
        assert before.json["balance"] == legs[0]["balance_before"], number


async def test_the_balance_before_the_first_and_after_the_last_entry(
    api: CheckedApi, history: History
) -> None:
    wallet, _ = history
    path = f"/v1/wallets/{wallet}/balance"
    long_ago = await api.get(path, at="2000-01-01T00:00:00Z")
    in_future = await api.get(path, at="2100-01-01T00:00:00Z")
    now = await api.get(path)

    assert long_ago.json["balance"] == "0.00"
    assert in_future.json["balance"] == now.json["balance"] == await api.balance(wallet)


async def test_a_wallet_without_entries_has_an_empty_history(api: CheckedApi) -> None:
    wallet = await api.create_wallet("JPY")
    entries = await api.get(f"/v1/wallets/{wallet}/entries")
    balance = await api.get(f"/v1/wallets/{wallet}/balance")

    assert entries.json == {"items": [], "next_cursor": None}
    assert balance.json["balance"] == "0"


async def test_entries_of_a_journal_are_in_their_wallet_s_currency(api: CheckedApi) -> None:
    dollars, yen = await api.create_wallet("USD"), await api.create_wallet("JPY")
    journal = await api.submit(
        {
            "type": "journal",
            "legs": [
                {"external": True, "amount": "-2.00", "currency": "USD"},
                {"wallet_id": dollars, "amount": "2.00", "currency": "USD"},
                {"external": True, "amount": "-300", "currency": "JPY"},
                {"wallet_id": yen, "amount": "300", "currency": "JPY"},
            ],
        }
    )
    assert journal.json["status"] == "COMPLETED", journal.body

    [in_dollars], [in_yen] = await _entries(api, dollars), await _entries(api, yen)

    assert (in_dollars["amount"], in_dollars["balance_after"]) == ("2.00", "2.00")
    assert (in_yen["amount"], in_yen["balance_after"]) == ("300", "300")
    assert in_dollars["transaction_id"] == in_yen["transaction_id"] == journal.json["id"]
