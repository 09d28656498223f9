"""People's money: their wallets are those that they own or made, and customers may ask for less."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.scopes import Role
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.people.persons import People
from tests.support import deposit, transfer, withdrawal
from tools.stack import Stack


@pytest.fixture(scope="module")
def api(doors: CheckedDoors) -> CheckedApi:
    """A system that reaches all."""
    return doors.api


@asynccontextmanager
async def _somebody(
    people: People, role: Role = Role.CUSTOMER
) -> AsyncIterator[tuple[UUID, CheckedApi]]:
    """Give a new person's id, and a client with their access token."""
    person = await people.person(role)
    async with CheckedApi(people.doors.system.http_url, person.tokens["access_token"]) as client:
        yield await person.id(), client


async def _funded(api: CheckedApi, owner_id: str, amount: str = "10") -> str:
    """Return a wallet that a system made for somebody, with money in it."""
    wallet = await api.create_wallet(owner_id=owner_id)
    assert (await api.deposit(wallet, amount)).json["status"] == "COMPLETED"
    return wallet


async def test_a_person_sees_and_moves_what_is_made_for_them_or_by_them(
    people: People, api: CheckedApi
) -> None:
    others = await _funded(api, str(uuid4()))
    async with _somebody(people) as (user_id, me):
        given, second = [await _funded(api, str(user_id)) for _ in range(2)]
        made = await me.create_wallet("GBP")
        mine = (await me.get("/v1/wallets")).json["items"]
        sent = await me.submit(transfer(given, others, "1"))
        moved = await me.submit(transfer(given, second, "2"))
        listed = (await me.get("/v1/transactions")).json["items"]
        stolen = await me.submit(transfer(others, given, "1"))
        seen = await me.get(f"/v1/wallets/{others}")

    # The first one was made when they confirmed their address.
    assert {one["id"] for one in mine} > {given, second, made}
    assert len(mine) == 4
    assert {one["owner_id"] for one in mine} == {str(user_id)}
    assert (sent.json["status"], moved.json["status"]) == ("COMPLETED", "COMPLETED")
    assert sent.json["submitter"] == f"user:{user_id}"
    # What a system paid in is listed, too: it touches a wallet of theirs.
    assert [one["id"] for one in listed][:2] == [moved.json["id"], sent.json["id"]]
    assert [one["type"] for one in listed] == ["transfer"] * 2 + ["deposit"] * 2
    assert (stolen.status, stolen.code) == (404, "wallet_not_found")
    assert (seen.status, seen.code) == (404, "wallet_not_found")


async def test_a_list_of_a_person_goes_on_page_by_page_with_its_filters(
    people: People, api: CheckedApi
) -> None:
    async with _somebody(people) as (user_id, me):
        wallets = [await _funded(api, str(user_id)) for _ in range(3)]
        sent = [
            (await me.submit(transfer(wallets[0], wallets[1], "1"))).json["id"] for _ in range(3)
        ]
        failed = (await me.submit(withdrawal(wallets[2], "99"))).json["id"]
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await me.get("/v1/transactions", limit="2", **cursor)).json
            found += [one["id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        by_type = (await me.get("/v1/transactions", type="transfer")).json["items"]
        by_status = (await me.get("/v1/transactions", status="FAILED")).json["items"]

    assert len(found) == len(set(found)) == 7
    assert found[:4] == [failed, *reversed(sent)]
    assert [one["id"] for one in by_type] == list(reversed(sent))
    assert [one["id"] for one in by_status] == [failed]


async def test_whoever_has_many_wallets_is_listed_all_the_same(
    people: People, api: CheckedApi
) -> None:
    async with _somebody(people) as (user_id, me):
        wallets = [await api.create_wallet(owner_id=str(user_id)) for _ in range(21)]
        paid = (await api.deposit(wallets[-1], "1")).json["id"]
        listed = (await me.get("/v1/transactions")).json["items"]

    assert [one["id"] for one in listed] == [paid]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"owner_id": "somebody"}, "owners"),
        ({"kind": "internal"}, "internal"),
        ({"overdraft_limit": "1"}, "overdraft_limit"),
    ],
)
async def test_a_customer_makes_wallets_for_themselves_alone(
    people: People, body: dict[str, Any], what: str
) -> None:
    async with _somebody(people) as (_, me):
        answer = await me.call("POST", "/v1/wallets", json={"currency": "USD", **body})

    assert (answer.status, answer.code) == (403, "insufficient_scope")
    assert what in answer.json["detail"]


@pytest.mark.parametrize(
    "change", [{"status": "FROZEN"}, {"status": "CLOSED"}, {"overdraft_limit": "5"}]
)
async def test_a_customer_changes_nothing_but_metadata(
    people: People, change: dict[str, Any]
) -> None:
    async with _somebody(people) as (_, me):
        wallet = await me.create_wallet()
        path = f"/v1/wallets/{wallet}"
        refused = await me.call("PATCH", path, json={**change, "metadata": {"a": 1}})
        changed = await me.call("PATCH", path, json={"metadata": {"a": 1}})
        deleted = await me.call("DELETE", path)

    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert changed.json["metadata"] == {"a": 1}
    assert changed.json["status"] == "ACTIVE"
    assert deleted.status == 204


async def test_a_customer_brings_no_money_in_from_outside(people: People, api: CheckedApi) -> None:
    async with _somebody(people) as (user_id, me):
        wallet = await _funded(api, str(user_id))
        external_leg = {"external": True, "amount": "-5", "currency": "USD"}
        leg = {"wallet_id": wallet, "amount": "5", "currency": "USD"}
        journal = {"type": "journal", "legs": [external_leg, leg]}
        paid_out = await me.submit(withdrawal(wallet, "2"))
        asked = [
            await me.submit(deposit(wallet, "5")),
            await me.submit(journal),
            await me.submit({"type": "reversal", "reverses": paid_out.json["id"]}),
        ]
        batch = await me.call(
            "POST",
            "/v1/transactions/batch",
            json={"transactions": [{**deposit(wallet, "5"), "idempotency_key": uuid4().hex}]},
        )
        others = await me.submit(deposit(await _funded(api, "somebody"), "5"))
        balance = await me.balance(wallet)

    assert paid_out.json["status"] == "COMPLETED"
    assert [(one.status, one.code) for one in asked] == [(403, "insufficient_scope")] * 3
    assert "outside" in asked[0].json["detail"]
    assert batch.json["items"][0]["problem"]["code"] == "insufficient_scope"
    # Whose it is comes first.
    assert (others.status, others.code) == (404, "wallet_not_found")
    assert balance == "8.00"


async def test_a_setting_lets_customers_deposit(
    stack: Stack, template: str, tmp_path: Path, keys_directory: Path
) -> None:
    settings = {
        "ACKLEDGER_TOKEN_KEYS": str(keys_directory),
        "ACKLEDGER_CUSTOMER_DEPOSITS": "true",
    }
    async with (
        open_doors(stack, template, tmp_path, settings=settings) as doors,
        CheckedApi(doors.system.http_url, None) as nobody,
        _somebody(People(doors, nobody)) as (_, me),
    ):
        paid = await me.submit(deposit(await me.create_wallet(), "5"))

    assert paid.json["status"] == "COMPLETED"


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
async def test_operators_and_admins_reach_every_wallet(
    people: People, api: CheckedApi, role: Role
) -> None:
    wallet = await _funded(api, "somebody")
    async with _somebody(people, role) as (_, me):
        read = await me.get(f"/v1/wallets/{wallet}")
        frozen = await me.call("PATCH", f"/v1/wallets/{wallet}", json={"status": "FROZEN"})
        internal = await me.call(
            "POST", "/v1/wallets", json={"currency": "USD", "kind": "internal", "owner_id": "us"}
        )

    assert (read.status, frozen.status, internal.status) == (200, 200, 201)


async def test_an_auditor_reads_everything_and_moves_nothing(
    people: People, api: CheckedApi
) -> None:
    wallet = await _funded(api, "somebody")
    async with _somebody(people, Role.AUDITOR) as (_, me):
        read = await me.get(f"/v1/wallets/{wallet}/entries")
        letters = await me.get("/v1/dead-letters")
        moved = await me.submit(withdrawal(wallet, "1"))
        made = await me.call("POST", "/v1/wallets", json={"currency": "USD"})

    assert (read.status, letters.status) == (200, 200)
    assert [(one.status, one.code) for one in (moved, made)] == [(403, "insufficient_scope")] * 2


async def test_a_customer_ends_nothing_that_a_system_placed_on_their_wallet(
    people: People, api: CheckedApi
) -> None:
    async with _somebody(people) as (user_id, me):
        wallet, second = [await _funded(api, str(user_id)) for _ in range(2)]
        hold = {"type": "hold", "source_wallet_id": wallet, "amount": "4", "currency": "USD"}
        theirs, mine = (await api.submit(hold)).json["id"], (await me.submit(hold)).json["id"]
        refused = [
            await me.submit({"type": "release", "hold_id": theirs}),
            await me.submit(
                {"type": "capture", "hold_id": theirs, "destination_wallet_id": second}
            ),
            await me.call(
                "POST",
                "/v1/transactions/preview",
                json={"type": "release", "hold_id": theirs},
            ),
        ]
        released = await me.submit({"type": "release", "hold_id": mine})
        captured = await api.submit({"type": "capture", "hold_id": theirs})

    assert [(one.status, one.code) for one in refused] == [(403, "insufficient_scope")] * 3
    assert released.json["status"] == "COMPLETED"
    assert (captured.json["status"], captured.json["amount"]) == ("COMPLETED", "4.00")


async def test_a_customer_cancels_what_they_scheduled_and_nothing_else(
    people: People, api: CheckedApi
) -> None:
    async with _somebody(people) as (user_id, me):
        wallet, second = [await _funded(api, str(user_id)) for _ in range(2)]
        later = {
            **transfer(wallet, second, "1"),
            "execute_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }
        cancelled = []
        for client in (api, me):
            scheduled = (await client.submit(later, wait=None)).json
            path = f"/v1/transactions/{scheduled['id']}/cancel"
            key = {"Idempotency-Key": uuid4().hex}
            cancelled.append(await me.call("POST", path, headers=key))

    assert (cancelled[0].status, cancelled[0].code) == (403, "insufficient_scope")
    assert (cancelled[1].status, cancelled[1].json["status"]) == (200, "FAILED")


async def test_a_customer_does_not_lose_a_frozen_wallet_by_deleting_it(
    people: People, api: CheckedApi
) -> None:
    async with _somebody(people) as (_, me):
        wallet = await me.create_wallet("GBP")
        path = f"/v1/wallets/{wallet}"
        await api.call("PATCH", path, json={"status": "FROZEN"})
        refused = await me.call("DELETE", path)
        another = await me.call("POST", "/v1/wallets", json={"currency": "GBP"})
        await api.call("PATCH", path, json={"status": "ACTIVE"})
        deleted = await me.call("DELETE", path)

    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert (another.status, another.code) == (409, "wallet_limit_reached")
    assert deleted.status == 204


async def test_what_was_scheduled_is_judged_again_when_it_is_due(
    people: People, api: CheckedApi
) -> None:
    admin = await people.person(Role.ADMIN)
    elsewhere = await api.create_wallet()
    ended = []
    for change in (None, {"status": "DISABLED"}, {"role": "auditor"}):
        async with _somebody(people) as (user_id, me):
            wallet = await _funded(api, str(user_id))
            soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
            later = {**transfer(wallet, elsewhere, "1"), "execute_at": soon}
            scheduled = (await me.submit(later, wait=None)).json["id"]
            if change is not None:
                changed = await admin.call("PATCH", f"/v1/users/{user_id}", change)
                assert changed.status == 200
        read = await api.call("GET", f"/v1/transactions/{scheduled}", headers={"Prefer": "wait=15"})
        ended.append((read.json["status"], (read.json["failure"] or {}).get("code")))

    assert ended == [("COMPLETED", None), ("FAILED", "not_permitted"), ("FAILED", "not_permitted")]
