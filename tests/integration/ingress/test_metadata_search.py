"""Searching transactions by a member of their metadata, in a wallet or in a bounded time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.operations.transactions import METADATA_SEARCHED_MAX
from contracts.scopes import Reach
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import deposit, transfer

Json = dict[str, Any]


@dataclass(frozen=True)
class _Shop:
    """A wallet, and what was paid into it, by the name of its metadata, the newest first."""

    wallet: str
    paid: dict[str, list[str]]
    start: str
    end: str

    @property
    def window(self) -> dict[str, str]:
        """The time in which all of it was accepted."""
        return {"from": self.start, "to": self.end}


@pytest.fixture(scope="module")
async def shop(api: CheckedApi) -> _Shop:
    """Three payments for one order, and others with metadata that is like it."""
    wallet, order = await api.create_wallet(), uuid4().hex
    start = _moment(-1)
    metadata: dict[str, Json] = {
        "order": {"order": order},
        "with more": {"order": order, "lines": [1, 2], "a": {"order": "inner"}},
        "other": {"order": order + "1"},
        "number": {"count": 4711, "rate": 1.5, "paid": True, "none": None, "order ": order},
        "nested": {"a": {"order": order}},
        "colon": {"url": "https://shop.example/1", "empty": ""},
    }
    names = ["order", "with more", "other", "number", "nested", "colon", "order"]
    paid: dict[str, list[str]] = {name: [] for name in metadata}
    for name in names:
        answer = await api.submit({**deposit(wallet, "1.00"), "metadata": metadata[name]})
        paid[name].insert(0, answer.json["id"])
    await api.submit(deposit(wallet, "1.00"))
    return _Shop(wallet, {**paid, "": [order]}, start, _moment(60))


def _moment(seconds: float) -> str:
    return (datetime.now(tz=UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def _found(api: CheckedApi, **parameters: str) -> list[str]:
    found: list[str] = []
    while True:
        answer = await api.get("/v1/transactions", **parameters)
        assert answer.status == 200, answer.body
        found += [one["id"] for one in answer.json["items"]]
        if answer.json["next_cursor"] is None:
            return found
        parameters["cursor"] = answer.json["next_cursor"]


@pytest.mark.parametrize("limit", ["1", "2", "50"])
@pytest.mark.parametrize("is_by_wallet", [True, False])
async def test_a_member_of_metadata_finds_those_that_have_it_newest_first(
    api: CheckedApi, shop: _Shop, limit: str, *, is_by_wallet: bool
) -> None:
    [order] = shop.paid[""]
    bounds = {"wallet_id": shop.wallet} if is_by_wallet else shop.window
    newest, oldest = shop.paid["order"]

    found = await _found(api, metadata=f"order:{order}", limit=limit, **bounds)

    assert found == [newest, *shop.paid["with more"], oldest]


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("count:4711", "number"),
        ("rate:1.5", "number"),
        ("paid:true", "number"),
        ("url:https://shop.example/1", "colon"),
        ("empty:", "colon"),
        ("none:null", None),
        ("none:", None),
        ("count:471", None),
        ("ORDER:4711", None),
        ("a.order:inner", None),
    ],
)
async def test_a_value_is_compared_whole_as_text(
    api: CheckedApi, shop: _Shop, member: str, expected: str | None
) -> None:
    found = await _found(api, wallet_id=shop.wallet, metadata=member)

    assert found == (shop.paid[expected] if expected else [])


async def test_other_filters_and_names_narrow_it_further(api: CheckedApi, shop: _Shop) -> None:
    [order] = shop.paid[""]
    member = {"metadata": f"order:{order}"}
    one = (await api.get(f"/v1/transactions/{shop.paid['order'][0]}")).json
    other = (await api.get(f"/v1/transactions/{shop.paid['other'][0]}")).json

    assert await _found(api, wallet_id=shop.wallet, type="transfer", **member) == []
    assert len(await _found(api, wallet_id=shop.wallet, type="deposit", **member)) == 3
    assert await _found(api, status="FAILED", **shop.window, **member) == []
    assert await _found(api, reference=one["reference"], **member) == [one["id"]]
    assert await _found(api, reference=other["reference"], **member) == []
    assert await _found(api, idempotency_key=one["idempotency_key"], **member) == [one["id"]]


@pytest.mark.parametrize(
    "parameters",
    [
        {"metadata": "order:1"},
        {"metadata": "order:1", "from": "2026-11-01T00:00:00Z"},
        {"metadata": "order:1", "to": "2026-11-01T00:00:00Z"},
        {"metadata": "order:1", "status": "FAILED"},
        {"metadata": "order:1", "from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:01Z"},
        {"metadata": "order", "wallet_id": str(uuid4())},
        {"metadata": ":1", "wallet_id": str(uuid4())},
        {"metadata": "", "wallet_id": str(uuid4())},
        {"metadata": "a:" + "1" * METADATA_SEARCHED_MAX, "wallet_id": str(uuid4())},
    ],
)
async def test_a_search_without_a_bound_or_a_member_is_refused(
    api: CheckedApi, parameters: dict[str, str]
) -> None:
    answer = await api.get("/v1/transactions", **parameters)

    assert (answer.status, answer.code) == (400, "invalid_parameter")
    assert "metadata" in answer.json["detail"]


async def test_a_month_may_be_searched(api: CheckedApi) -> None:
    bounds = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}

    assert await _found(api, metadata="order:1", **bounds) == []


async def test_a_client_of_its_own_finds_only_what_it_sees(make_client: MakeClient) -> None:
    us, them = await make_client(reach=Reach.OWN), await make_client(reach=Reach.OWN)
    ours, theirs = await us.create_wallet(), await them.create_wallet()
    order, start = uuid4().hex, _moment(-1)
    metadata = {"metadata": {"order": order}}
    private = (await them.submit({**deposit(theirs, "5.00"), **metadata})).json["id"]
    shared = (await them.submit({**transfer(theirs, ours, "1.00"), **metadata})).json["id"]
    bounds = {"metadata": f"order:{order}", "from": start, "to": _moment(60)}

    assert await _found(us, **bounds) == [shared]
    assert await _found(them, **bounds) == [shared, private]
    assert await _found(us, metadata=f"order:{order}", wallet_id=theirs) == []
    assert await _found(us, metadata=f"order:{order}", wallet_id=ours) == [shared]
