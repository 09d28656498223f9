"""Lists of transactions: every filter alone, together, and page by page."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.support import deposit, transfer, withdrawal

Json = dict[str, Any]


@dataclass(frozen=True)
class _Book:
    """Two wallets and what happened to the first one, the newest first."""

    wallet: str
    other: str
    transactions: list[Json]

    def ids(self, **wanted: str) -> list[str]:
        """Return the ids of those with these members, the newest first."""
        return [
            one["id"]
            for one in self.transactions
            if all(one[name] == value for name, value in wanted.items())
        ]


@pytest.fixture(scope="module")
async def book(api: CheckedApi) -> _Book:
    """Deposits, transfers both ways, withdrawals, and one of each that fails."""
    wallet, other = await api.create_wallet(), await api.create_wallet()
    bodies = [deposit(wallet, "10.00")]
    for _ in range(3):
        bodies += [
            transfer(wallet, other, "2.00"),
            withdrawal(wallet, "50.00"),
            transfer(other, wallet, "1.00"),
            transfer(wallet, wallet, "1.00"),
        ]
    bodies.append(withdrawal(wallet, "0.50"))
    answers = [await api.submit(body) for body in bodies]
    return _Book(wallet, other, [answer.json for answer in answers][::-1])


async def _listed(api: CheckedApi, **filters: str) -> list[str]:
    found: list[str] = []
    parameters = dict(filters)
    while True:
        answer = await api.get("/v1/transactions", **parameters)
        assert answer.status == 200, answer.body
        page = answer.json
        found += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("limit", ["1", "2", "5", "13", "14", "15", "200"])
async def test_a_wallet_s_transactions_come_newest_first_on_pages_of_any_size(
    api: CheckedApi, book: _Book, limit: str
) -> None:
    assert await _listed(api, wallet_id=book.wallet, limit=limit) == book.ids()


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "PENDING", "REVERSED", "QUARANTINED"])
@pytest.mark.parametrize("limit", ["2", "50"])
async def test_a_status_narrows_the_list(
    api: CheckedApi, book: _Book, status: str, limit: str
) -> None:
    found = await _listed(api, wallet_id=book.wallet, status=status, limit=limit)

    assert found == book.ids(status=status)


@pytest.mark.parametrize("kind", ["deposit", "withdrawal", "transfer", "reversal"])
async def test_a_type_narrows_the_list(api: CheckedApi, book: _Book, kind: str) -> None:
    assert await _listed(api, wallet_id=book.wallet, type=kind, limit="3") == book.ids(type=kind)


async def test_status_and_type_narrow_together(api: CheckedApi, book: _Book) -> None:
    filters = {"status": "FAILED", "type": "withdrawal"}

    assert await _listed(api, wallet_id=book.wallet, **filters) == book.ids(**filters)


@pytest.mark.parametrize("wallet_given", [True, False])
@pytest.mark.parametrize("status", [None, "FAILED", "COMPLETED"])
async def test_from_is_included_and_to_is_not(
    api: CheckedApi,
    book: _Book,
    status: str | None,
    *,
    wallet_given: bool,
) -> None:
    start = book.transactions[9]["created_at"]
    end = book.transactions[2]["created_at"]
    filters = {"from": start, "to": end, "limit": "2"}
    filters |= {"wallet_id": book.wallet} if wallet_given else {}
    filters |= {"status": status} if status else {}
    wanted = {"status": status} if status else {}
    expected = [one for one in book.ids(**wanted) if one in book.ids()[3:10]]

    assert await _listed(api, **filters) == expected


async def test_a_list_without_filters_shows_the_newest_of_all(api: CheckedApi, book: _Book) -> None:
    latest = await api.deposit(book.other, "1.00")
    page = (await api.get("/v1/transactions", limit="1")).json

    assert [one["id"] for one in page["items"]] == [latest.json["id"]]
    assert page["next_cursor"] is not None


async def test_all_failed_ones_are_listed_newest_first(api: CheckedApi, book: _Book) -> None:
    found = await _listed(
        api, status="FAILED", limit="3", **{"from": book.transactions[-1]["created_at"]}
    )

    assert [one for one in found if one in book.ids()] == book.ids(status="FAILED")
    assert found == sorted(found, reverse=True)


async def test_a_reference_finds_its_transaction_in_any_case(api: CheckedApi, book: _Book) -> None:
    one = book.transactions[4]
    for reference in (one["reference"], one["reference"].lower(), one["reference"][4:]):
        assert await _listed(api, reference=reference) == [one["id"]]


async def test_an_unknown_reference_or_key_finds_nothing(api: CheckedApi) -> None:
    assert await _listed(api, reference="TXN-" + "A" * 26) == []
    assert await _listed(api, idempotency_key=uuid4().hex) == []


async def test_a_key_finds_its_transaction(api: CheckedApi, book: _Book) -> None:
    one = book.transactions[4]
    page = await api.get("/v1/transactions", idempotency_key=one["idempotency_key"])

    assert page.json == {"items": [one], "next_cursor": None}


async def test_names_and_filters_narrow_together(api: CheckedApi, book: _Book) -> None:
    one, another = book.transactions[4], book.transactions[5]
    key = one["idempotency_key"]
    both = {"idempotency_key": key, "reference": one["reference"]}

    assert await _listed(api, **both) == [one["id"]]
    assert await _listed(api, idempotency_key=key, reference=another["reference"]) == []
    assert await _listed(api, **both, status=one["status"], type=one["type"]) == [one["id"]]
    assert await _listed(api, **both, status="REVERSED") == []
    assert await _listed(api, **both, wallet_id=str(uuid4())) == []
    assert await _listed(api, **both, **{"from": one["created_at"]}) == [one["id"]]
    assert await _listed(api, **both, to=one["created_at"]) == []


async def test_transactions_that_arrive_between_pages_disturb_none(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    ids = [(await api.deposit(wallet, "1.00")).json["id"] for _ in range(4)][::-1]
    first = (await api.get("/v1/transactions", wallet_id=wallet, limit="2")).json
    await api.deposit(wallet, "1.00")
    second = (
        await api.get("/v1/transactions", wallet_id=wallet, limit="2", cursor=first["next_cursor"])
    ).json

    assert [one["id"] for one in first["items"] + second["items"]] == ids


async def test_a_wallet_without_transactions_has_an_empty_list(api: CheckedApi) -> None:
    answer = await api.get("/v1/transactions", wallet_id=str(uuid4()))

    assert answer.json == {"items": [], "next_cursor": None}


async def test_a_journal_is_listed_once_for_each_wallet_that_a_leg_names(api: CheckedApi) -> None:
    wallet, other = await api.create_wallet(), await api.create_wallet()
    first = (await api.submit(deposit(wallet, "10.00"))).json["id"]
    legs = [
        {"wallet_id": wallet, "amount": "-3.00", "currency": "USD"},
        {"wallet_id": wallet, "amount": "1.00", "currency": "USD"},
        {"wallet_id": wallet, "amount": "-1.00", "currency": "USD"},
        {"wallet_id": other, "amount": "3.00", "currency": "USD"},
    ]
    journals = [(await api.submit({"type": "journal", "legs": legs})).json["id"] for _ in range(3)]
    last = (await api.submit(transfer(other, wallet, "1.00"))).json["id"]

    for limit in "1", "2", "100":
        listed = await _listed(api, wallet_id=wallet, limit=limit)
        assert listed == [last, *reversed(journals), first]
    assert await _listed(api, wallet_id=other, limit="2") == [last, *reversed(journals)]
    assert await _listed(api, wallet_id=other, type="journal") == journals[::-1]
