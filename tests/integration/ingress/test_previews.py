"""Previews: what one says is what then happens, and nothing happens by it."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.scopes import Scope
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import Answer, deposit, eventually, transfer, withdrawal

Json = dict[str, Any]


async def _preview(api: CheckedApi, body: Any) -> Answer:
    return await api.call("POST", "/v1/transactions/preview", json=body)


def _shown(wallet: Json) -> Json:
    names = ("version", "balance", "held", "available")
    return {"wallet_id": wallet["id"], **{name: wallet[name] for name in names}}


class Town:
    """A few wallets, holds and originals, and random transactions between them."""

    def __init__(self, api: CheckedApi, seed: int) -> None:
        self.api = api
        self.random = random.Random(seed)
        self.wallets: list[str] = []
        self.holds = [str(uuid4())]
        self.originals = [str(uuid4())]

    async def found(self) -> None:
        """Make the wallets: one poor, one with an overdraft, one internal, one frozen."""
        api = self.api
        self.wallets = [await api.create_wallet() for _ in range(2)]
        self.wallets.append(await api.create_wallet(overdraft_limit="20.00"))
        self.wallets.append(await api.create_wallet(kind="internal"))
        self.wallets.append(await api.create_wallet("EUR"))
        self.wallets.append(await api.create_wallet())
        frozen = {"status": "FROZEN"}
        await api.call("PATCH", f"/v1/wallets/{self.wallets[-1]}", json=frozen)
        for wallet in self.wallets[:3]:
            await api.deposit(wallet, "50.00")

    def transaction(self) -> Json:
        """Return any transaction: some are refused."""
        draw = self.random
        amount = f"{draw.randint(1, 4000) / 100:.2f}"
        one, other, third = (draw.choice(self.wallets) for _ in range(3))
        hold, original = draw.choice(self.holds[-4:]), draw.choice(self.originals[-6:])
        body: Json = draw.choice(
            [
                deposit(one, amount),
                withdrawal(one, amount),
                transfer(one, other, amount),
                {
                    "type": "hold",
                    "source_wallet_id": one,
                    "destination_wallet_id": other,
                    "amount": amount,
                    "currency": "USD",
                },
                {"type": "capture", "hold_id": hold, "final": draw.random() < 0.5},
                {"type": "capture", "hold_id": hold, "amount": "1.00", "final": False},
                {"type": "release", "hold_id": hold},
                {"type": "reversal", "reverses": original},
                {"type": "reversal", "reverses": original, "force": True},
                _journal(one, other, third, amount),
            ]
        )
        if draw.random() < 0.2:
            body["conditions"] = [{"wallet_id": one, "available_at_least": "10.00"}]
        if draw.random() < 0.05:
            body["valid_until"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        return body

    def remember(self, ended: Sequence[Json]) -> None:
        """Take note of what later transactions may name."""
        self.holds += [one["id"] for one in ended if one["type"] == "hold"]
        self.originals += [one["id"] for one in ended if one["type"] != "hold"]


def _journal(one: str, other: str, third: str, amount: str) -> Json:
    amounts = [(one, f"-{amount}"), (other, amount), (third, "-0.01")]
    legs: list[Json] = [
        {"wallet_id": wallet, "amount": change, "currency": "USD"} for wallet, change in amounts
    ]
    legs.append({"external": True, "amount": "0.01", "currency": "USD"})
    return {"type": "journal", "legs": legs}


@pytest.mark.parametrize("seed", range(4))
async def test_what_a_preview_says_is_what_then_happens(api: CheckedApi, seed: int) -> None:
    town = Town(api, seed)
    await town.found()
    statuses = set()
    for _ in range(25):
        count = town.random.choice([1, 1, 2, 5])
        mode = "atomic" if town.random.random() < 0.5 else "independent"
        asked = [town.transaction() for _ in range(count)]
        preview = await _preview(api, {"mode": mode, "transactions": asked})
        keyed = [{**one, "idempotency_key": uuid4().hex} for one in asked]
        sent = await api.call(
            "POST", "/v1/transactions/batch", json={"mode": mode, "transactions": keyed}
        )
        if preview.status == 422:
            # A journal is named by a reversal of a part, say.
            assert sent.status == 422 or {one["status_code"] for one in sent.json["items"]} != {202}
            continue
        ended = [
            (
                await api.call(
                    "GET",
                    f"/v1/transactions/{one['transaction']['id']}",
                    headers={"Prefer": "wait=20"},
                )
            ).json
            for one in sent.json["items"]
        ]
        wallets = [
            (await api.get(f"/v1/wallets/{one['wallet_id']}")).json
            for one in preview.json["wallets"]
        ]
        town.remember(ended)
        # What a later one of the batch reversed is REVERSED by now.
        came_to = [
            {
                "status": one["status"].replace("REVERSED", "COMPLETED"),
                "failure": one["failure"],
            }
            for one in ended
        ]
        assert preview.json["transactions"] == came_to, asked
        assert preview.json["wallets"] == [_shown(one) for one in wallets], asked
        statuses |= {(one["failure"] or {}).get("code") for one in ended}

    assert None in statuses
    assert len(statuses) > 3


async def test_a_preview_writes_nothing_and_uses_no_key(api: CheckedApi) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    before = await api.get(f"/v1/wallets/{wallet}")
    body = {**deposit(wallet, "1.00"), "idempotency_key": key}
    first, second = [await _preview(api, body) for _ in range(2)]
    sent = await api.submit(deposit(wallet, "2.00"), key=key)

    assert first.json == second.json
    assert first.json["transactions"] == [{"status": "COMPLETED", "failure": None}]
    assert first.json["wallets"] == [
        {
            "wallet_id": wallet,
            "version": 1,
            "balance": "1.00",
            "held": "0.00",
            "available": "1.00",
        }
    ]
    assert before.json["version"] == 0
    assert (sent.status, sent.json["status"]) == (200, "COMPLETED")
    assert await api.balance(wallet) == "2.00"


async def test_an_expired_hold_is_in_nobody_s_way(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    await api.deposit(wallet, "5.00")
    hold = {
        "type": "hold",
        "source_wallet_id": wallet,
        "amount": "5.00",
        "currency": "USD",
        "expires_in_s": 3,
    }
    await api.submit(hold)

    async def is_free() -> bool:
        preview = await _preview(api, withdrawal(wallet, "5.00"))
        return bool(preview.json["transactions"][0]["status"] == "COMPLETED")

    assert not await is_free()
    await eventually(is_free, what="the hold expires")


async def test_what_is_to_be_executed_later_is_judged_as_if_it_were_due(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    preview = await _preview(api, {**withdrawal(wallet, "1.00"), "execute_at": later})

    assert preview.json["transactions"][0]["failure"]["code"] == "insufficient_funds"


async def test_what_cannot_be_submitted_cannot_be_previewed(
    api: CheckedApi, make_client: MakeClient, wallet: str
) -> None:
    clerk = await make_client(scopes=[Scope.TRANSACTIONS_WRITE])
    reader = await make_client(scopes=[Scope.WALLETS_READ])
    forced = {"type": "reversal", "reverses": str(uuid4()), "force": True}
    banker = await make_client(scopes=[Scope.TRANSACTIONS_WRITE, Scope.WALLETS_READ])
    answers = [
        await _preview(clerk, deposit(wallet, "1.00")),
        await _preview(reader, deposit(wallet, "1.00")),
        await _preview(banker, forced),
        await _preview(banker, {"transactions": [forced]}),
    ]
    single = await _preview(api, deposit(wallet, "x"))
    batch = await _preview(api, {"transactions": [deposit(wallet, "1"), deposit(wallet, "x")]})
    bodies: list[Any] = [[], {}, {"transactions": []}]
    nothing = [await _preview(api, one) for one in bodies]

    assert {(one.status, one.code) for one in answers} == {(403, "insufficient_scope")}
    assert [one["pointer"] for one in single.json["errors"]] == ["/amount"]
    assert [one["pointer"] for one in batch.json["errors"]] == ["/transactions/1/amount"]
    assert {(one.status, one.code) for one in nothing} == {(422, "validation_failed")}
