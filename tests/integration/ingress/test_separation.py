"""What belongs to whom: a client with its own wallets sees and moves no other's."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cli.wallet_grants import grant_wallet, revoke_grant
from contracts.identifiers import external_wallet_id
from contracts.scopes import Reach
from runtime.postgres.pool import connect
from tests.conftest import Connection
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.support import Answer, deposit, eventually, transfer, withdrawal


@dataclass(frozen=True)
class Neighbours:
    """Two clients with wallets of their own; `theirs` has 100 USD, `ours` 50."""

    us: CheckedApi
    our_name: str
    them: CheckedApi
    ours: str
    theirs: str
    paid: Mapping[str, Any]
    """The deposit into their wallet."""


@pytest.fixture(scope="module")
async def neighbours(make_client: MakeClient) -> Neighbours:
    """Two clients with keys as they are made by default."""
    our_name = f"us-{uuid4().hex}"
    us = await make_client(our_name, reach=Reach.OWN)
    them = await make_client(reach=Reach.OWN)
    ours = await us.create_wallet()
    theirs = await them.create_wallet(metadata={"private": "theirs"}, owner_id="them")
    paid = await them.submit({**deposit(theirs, "100"), "description": "salary"})
    assert (await us.submit(deposit(ours, "50"))).json["status"] == "COMPLETED"
    return Neighbours(us, our_name, them, ours, theirs, paid.json)


@pytest.fixture
async def database(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """A connection to the database of the shared doors."""
    connection = await connect(doors.database_url, name="test")
    yield connection
    await connection.close()


def _told(answer: Answer, *ids: str) -> tuple[int, dict[str, Any]]:
    """What an answer says, without what is another's in every answer."""
    body = dict(answer.json)
    for name in ("request_id", "trace_id"):
        body.pop(name)
    text = str(body)
    for number, one in enumerate(ids):
        text = text.replace(one, f"<{number}>")
    return answer.status, {"text": text}


_WALLET_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/wallets/{id}", None),
    ("GET", "/v1/wallets/{id}/entries", None),
    ("GET", "/v1/wallets/{id}/holds", None),
    ("GET", "/v1/wallets/{id}/holds?status=OPEN", None),
    ("GET", "/v1/wallets/{id}/balance", None),
    ("GET", "/v1/wallets/{id}/balance?at=2020-01-01T00:00:00Z", None),
    ("PATCH", "/v1/wallets/{id}", {"overdraft_limit": "1000000.00"}),
    ("PATCH", "/v1/wallets/{id}", {"status": "FROZEN"}),
    ("DELETE", "/v1/wallets/{id}", None),
]


@pytest.mark.parametrize(("method", "path", "body"), _WALLET_CALLS)
async def test_another_s_wallet_is_told_like_one_that_there_is_not(
    neighbours: Neighbours, method: str, path: str, body: Any
) -> None:
    missing = str(uuid4())
    of_them = await neighbours.us.call(method, path.format(id=neighbours.theirs), json=body)
    of_nobody = await neighbours.us.call(method, path.format(id=missing), json=body)
    tagged = await neighbours.us.call(
        method, path.format(id=neighbours.theirs), json=body, headers={"If-Match": '"1-x"'}
    )

    assert (of_them.status, of_them.code) == (404, "wallet_not_found")
    assert _told(of_them, neighbours.theirs) == _told(of_nobody, missing)
    assert tagged.status == 404
    assert (await neighbours.them.get(f"/v1/wallets/{neighbours.theirs}")).json["status"] == (
        "ACTIVE"
    )


async def test_an_external_wallet_is_nobody_s(neighbours: Neighbours) -> None:
    answer = await neighbours.us.get(f"/v1/wallets/{external_wallet_id('USD')}")

    assert (answer.status, answer.code) == (404, "wallet_not_found")


def _hold(wallet: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "hold",
        "source_wallet_id": wallet,
        "amount": "1",
        "currency": "USD",
        **fields,
    }


def _journal(*legs: tuple[str | None, str]) -> dict[str, Any]:
    return {
        "type": "journal",
        "legs": [
            {
                **({"external": True} if wallet is None else {"wallet_id": wallet}),
                "amount": amount,
                "currency": "USD",
            }
            for wallet, amount in legs
        ],
    }


def _asked(ours: str, theirs: str) -> dict[str, dict[str, Any]]:
    """What may not be asked for: `theirs` is another's, or there is no such wallet."""
    condition = {"wallet_id": theirs, "balance_at_most": "100"}
    return {
        "withdrawal": withdrawal(theirs, "1"),
        "deposit": deposit(theirs, "1"),
        "transfer": transfer(theirs, ours, "1"),
        "hold": _hold(theirs),
        "journal": _journal((theirs, "-1"), (ours, "1")),
        "journal from outside": _journal((None, "-1"), (theirs, "1")),
        "condition": {**transfer(ours, ours, "1"), "conditions": [condition]},
        "external": transfer(str(external_wallet_id("USD")), ours, "1"),
    }


_ASKED = sorted(_asked("", ""))


@pytest.mark.parametrize("kind", _ASKED)
async def test_nothing_that_needs_another_s_wallet_is_recorded(
    neighbours: Neighbours, kind: str
) -> None:
    missing, key = str(uuid4()), uuid4().hex
    body = _asked(neighbours.ours, neighbours.theirs)[kind]
    refused = await neighbours.us.submit(body, key=key)
    nobody = await neighbours.us.submit(_asked(neighbours.ours, missing)[kind])
    found = await neighbours.us.get("/v1/transactions", idempotency_key=key)
    preview = await neighbours.us.call("POST", "/v1/transactions/preview", json=body)

    assert (refused.status, refused.code) == (404, "wallet_not_found")
    assert _told(refused) == _told(nobody)
    assert found.json["items"] == []
    assert (preview.status, preview.code) == (404, "wallet_not_found")


async def test_an_item_of_a_batch_is_refused_alone_and_an_atomic_batch_whole(
    neighbours: Neighbours,
) -> None:
    items = [
        {**transfer(neighbours.ours, neighbours.theirs, "1"), "idempotency_key": uuid4().hex},
        {**withdrawal(neighbours.theirs, "1"), "idempotency_key": uuid4().hex},
    ]
    body = {"transactions": items}
    atomic = await neighbours.us.call(
        "POST", "/v1/transactions/batch", json={**body, "mode": "atomic"}
    )
    each = await neighbours.us.call("POST", "/v1/transactions/batch", json=body)

    assert (atomic.status, atomic.code) == (404, "wallet_not_found")
    assert [one["status_code"] for one in each.json["items"]] == [202, 404]
    assert each.json["items"][1]["problem"]["code"] == "wallet_not_found"


async def test_another_s_hold_is_told_like_one_that_there_is_not(neighbours: Neighbours) -> None:
    held = (await neighbours.them.submit(_hold(neighbours.theirs))).json
    assert held["status"] == "COMPLETED"
    for body in (
        {"type": "capture", "destination_wallet_id": neighbours.ours},
        {"type": "capture", "amount": "0.001"},
        {"type": "release"},
    ):
        refused = await neighbours.us.submit({**body, "hold_id": held["id"]})
        nobody = await neighbours.us.submit({**body, "hold_id": str(uuid4())})

        assert (refused.status, refused.code) == (404, "wallet_not_found")
        assert _told(refused) == _told(nobody)
    assert (await neighbours.them.submit({"type": "release", "hold_id": held["id"]})).json[
        "status"
    ] == "COMPLETED"


async def test_another_s_transaction_is_told_like_one_that_there_is_not(
    neighbours: Neighbours,
) -> None:
    theirs, missing = neighbours.paid["id"], str(uuid4())
    key = {"Idempotency-Key": uuid4().hex}
    for method, path, body in (
        ("GET", "/v1/transactions/{id}", None),
        ("POST", "/v1/transactions/{id}/reverse", {}),
        ("POST", "/v1/transactions/{id}/reverse", {"amount": "0.001"}),
        ("POST", "/v1/transactions/{id}/cancel", None),
    ):
        of_them = await neighbours.us.call(method, path.format(id=theirs), json=body, headers=key)
        of_nobody = await neighbours.us.call(
            method, path.format(id=missing), json=body, headers=key
        )

        assert (of_them.status, of_them.code) == (404, "transaction_not_found")
        assert _told(of_them, theirs) == _told(of_nobody, missing)

    named = await neighbours.us.submit({"type": "reversal", "reverses": theirs})
    nobody = await neighbours.us.submit({"type": "reversal", "reverses": missing})
    assert (named.status, named.code) == (404, "wallet_not_found")
    assert _told(named) == _told(nobody)


async def test_a_slow_connection_is_answered_in_the_same_way(neighbours: Neighbours) -> None:
    """On the path of aiohttp, which a header takes a request to."""
    slow = {"Expect": "100-continue", "Idempotency-Key": uuid4().hex}
    submitted = await neighbours.us.call(
        "POST", "/v1/transactions", json=withdrawal(neighbours.theirs, "1"), headers=slow
    )
    read = await neighbours.us.get(f"/v1/transactions/{neighbours.paid['id']}?")

    assert (submitted.status, submitted.code) == (404, "wallet_not_found")
    assert (read.status, read.code) == (404, "transaction_not_found")


async def test_waiting_for_another_s_transaction_tells_nothing(neighbours: Neighbours) -> None:
    later = {**transfer(neighbours.theirs, neighbours.theirs, "1"), "execute_at": _in_an_hour()}
    scheduled = (await neighbours.them.submit(later, wait=None)).json
    answer = await neighbours.us.call(
        "GET", f"/v1/transactions/{scheduled['id']}", headers={"Prefer": "wait=5"}
    )

    assert scheduled["status"] == "SCHEDULED"
    assert (answer.status, answer.code) == (404, "transaction_not_found")


def _in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def test_lists_hold_only_what_is_one_s_own(neighbours: Neighbours) -> None:
    us, them = neighbours.us, neighbours.them
    wallets = (await us.get("/v1/wallets")).json["items"]
    by_owner = (await us.get("/v1/wallets", owner_id="them")).json["items"]
    our_transactions = (await us.get("/v1/transactions")).json["items"]
    of_their_wallet = (await us.get("/v1/transactions", wallet_id=neighbours.theirs)).json
    by_key = await us.get("/v1/transactions", idempotency_key=neighbours.paid["idempotency_key"])
    by_reference = await us.get("/v1/transactions", reference=neighbours.paid["reference"])
    failed = (await us.get("/v1/transactions", status="FAILED")).json["items"]

    assert [one["id"] for one in wallets] == [neighbours.ours]
    assert by_owner == []
    assert [
        one["id"] for one in (await them.get("/v1/wallets", owner_id="them")).json["items"]
    ] == [neighbours.theirs]
    touched = {one["source_wallet_id"] for one in our_transactions}
    touched |= {one["destination_wallet_id"] for one in our_transactions}
    assert our_transactions
    assert neighbours.paid["id"] not in {one["id"] for one in our_transactions}
    assert neighbours.ours in touched
    assert of_their_wallet == {"items": [], "next_cursor": None}
    assert (by_key.json["items"], by_reference.json["items"]) == ([], [])
    assert failed == []


async def test_pages_of_one_s_own_wallets_and_transactions_go_on(make_client: MakeClient) -> None:
    us = await make_client(reach=Reach.OWN)
    other = await make_client(reach=Reach.OWN)
    ours: list[str] = []
    for _ in range(5):
        ours.append(await us.create_wallet())
        await other.create_wallet()
    for wallet in ours:
        await us.submit(deposit(wallet, "1"), wait=None)

    for listing, count in (("/v1/wallets", 5), ("/v1/transactions", 5)):
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await us.get(listing, limit="2", **cursor)).json
            found += [one["id"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert len(found) == len(set(found)) == count


async def test_both_sides_of_a_transfer_read_it_and_neither_the_other_s_balance(
    neighbours: Neighbours,
) -> None:
    sent = await neighbours.us.submit(
        {**transfer(neighbours.ours, neighbours.theirs, "2"), "description": "rent"}
    )
    read = (await neighbours.them.get(f"/v1/transactions/{sent.json['id']}")).json
    listed = (await neighbours.them.get("/v1/transactions", wallet_id=neighbours.theirs)).json
    again = await neighbours.us.submit(
        {**transfer(neighbours.ours, neighbours.theirs, "2"), "description": "rent"},
        key=sent.json["idempotency_key"],
    )

    assert sent.json["status"] == "COMPLETED"
    assert [one["wallet_id"] for one in sent.json["entries"]] == [neighbours.ours]
    assert [one["wallet_id"] for one in read["entries"]] == [neighbours.theirs]
    assert (read["description"], read["idempotency_key"]) == ("rent", None)
    assert read in listed["items"]
    assert again.json["entries"] == sent.json["entries"]


async def test_nobody_sees_the_balance_of_the_world_outside(neighbours: Neighbours) -> None:
    read = (await neighbours.them.get(f"/v1/transactions/{neighbours.paid['id']}")).json

    assert [one["wallet_id"] for one in read["entries"]] == [neighbours.theirs]


async def test_whoever_is_paid_by_a_journal_sees_no_other_leg(neighbours: Neighbours) -> None:
    second = await neighbours.us.create_wallet()
    paid = await neighbours.us.submit(
        _journal((neighbours.ours, "-3"), (neighbours.theirs, "1"), (second, "2"))
    )
    read = (await neighbours.them.get(f"/v1/transactions/{paid.json['id']}")).json

    assert paid.json["status"] == "COMPLETED"
    assert [one["wallet_id"] for one in paid.json["legs"]] == [
        neighbours.ours,
        neighbours.theirs,
        second,
    ]
    assert {one["wallet_id"] for one in paid.json["entries"]} == {neighbours.ours, second}
    assert [one["wallet_id"] for one in read["legs"]] == [neighbours.theirs]
    assert [one["wallet_id"] for one in read["entries"]] == [neighbours.theirs]


async def test_a_preview_shows_the_balances_of_one_s_own_wallets_alone(
    neighbours: Neighbours,
) -> None:
    answer = await neighbours.us.call(
        "POST",
        "/v1/transactions/preview",
        json=transfer(neighbours.ours, neighbours.theirs, "1"),
    )

    assert answer.json["transactions"][0]["status"] == "COMPLETED"
    assert [one["wallet_id"] for one in answer.json["wallets"]] == [neighbours.ours]


async def test_a_payer_can_neither_take_back_nor_a_payee_cancel(neighbours: Neighbours) -> None:
    sent = await neighbours.us.submit(transfer(neighbours.ours, neighbours.theirs, "1"))
    back = await neighbours.us.call(
        "POST",
        f"/v1/transactions/{sent.json['id']}/reverse",
        json={},
        headers={"Idempotency-Key": uuid4().hex},
    )
    later = {**transfer(neighbours.ours, neighbours.theirs, "1"), "execute_at": _in_an_hour()}
    scheduled = await neighbours.us.submit(later, wait=None)
    path = f"/v1/transactions/{scheduled.json['id']}/cancel"
    by_payee = await neighbours.them.call("POST", path, headers={"Idempotency-Key": uuid4().hex})
    by_payer = await neighbours.us.call("POST", path, headers={"Idempotency-Key": uuid4().hex})

    assert (back.status, back.code) == (404, "wallet_not_found")
    assert (by_payee.status, by_payee.code) == (404, "wallet_not_found")
    assert (by_payer.status, by_payer.json["failure"]["code"]) == (200, "cancelled")


async def test_what_was_scheduled_needs_the_grant_and_the_key_when_it_is_due(
    neighbours: Neighbours, api: CheckedApi, make_client: MakeClient, database: Connection
) -> None:
    name = f"scheduling-{uuid4().hex}"
    us = await make_client(name, reach=Reach.OWN)
    granted, own = await neighbours.them.create_wallet(), await us.create_wallet()
    for wallet in (granted, own):
        await api.deposit(wallet, "5")
    await grant_wallet(database, UUID(granted), client=name, actor="test")
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    made = [
        (await us.submit({**transfer(one, neighbours.ours, "1"), "execute_at": soon}, wait=None))
        for one in (granted, own)
    ]
    await revoke_grant(database, UUID(granted), client=name, actor="test")
    lost = await _ended(api, made[0].json["id"])
    kept = await _ended(api, made[1].json["id"])

    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    last = await us.submit({**transfer(own, neighbours.ours, "1"), "execute_at": soon}, wait=None)
    await database.execute("UPDATE api_keys SET revoked_at = now() WHERE client = $1", name)
    revoked = await _ended(api, last.json["id"])

    assert lost == ("FAILED", "wallet_not_found")
    assert kept == ("COMPLETED", None)
    assert revoked == ("FAILED", "not_permitted")


async def _ended(api: CheckedApi, transaction_id: str) -> tuple[str, str | None]:
    path, headers = f"/v1/transactions/{transaction_id}", {"Prefer": "wait=20"}
    read = (await api.call("GET", path, headers=headers)).json
    return read["status"], (read["failure"] or {}).get("code")


async def test_whose_wallet_is_debited_does_not_cancel_the_others_of_an_atomic_batch(
    neighbours: Neighbours, api: CheckedApi
) -> None:
    at = _in_an_hour()
    members = [
        {
            **transfer(source, destination, "1"),
            "execute_at": at,
            "idempotency_key": uuid4().hex,
        }
        for source, destination in (
            (neighbours.ours, neighbours.theirs),
            (neighbours.theirs, neighbours.ours),
        )
    ]
    batch = await api.call(
        "POST", "/v1/transactions/batch", json={"mode": "atomic", "transactions": members}
    )
    first, second = [one["transaction"]["id"] for one in batch.json["items"]]
    key = {"Idempotency-Key": uuid4().hex}
    by_payer = await neighbours.us.call("POST", f"/v1/transactions/{first}/cancel", headers=key)
    left = (await api.get(f"/v1/transactions/{second}")).json["status"]
    by_submitter = await api.call("POST", f"/v1/transactions/{first}/cancel", headers=key)

    assert (by_payer.status, by_payer.code) == (404, "wallet_not_found")
    assert left == "SCHEDULED"
    assert by_submitter.json["status"] == "FAILED"


async def test_all_that_one_does_with_wallets_of_one_s_own_works(make_client: MakeClient) -> None:
    us = await make_client(reach=Reach.OWN)
    first, second = await us.create_wallet(), await us.create_wallet()
    paid = await us.submit(deposit(first, "10"))
    moved = await us.submit(
        {
            **transfer(first, second, "4"),
            "conditions": [{"wallet_id": second, "balance_at_most": "4"}],
        }
    )
    held = await us.submit(_hold(second))
    captured = await us.submit({"type": "capture", "hold_id": held.json["id"]})
    reversed_ = await us.submit({"type": "reversal", "reverses": moved.json["id"], "amount": "1"})
    taken = await us.submit({"type": "reversal", "reverses": paid.json["id"], "amount": "1"})
    journal = await us.submit(_journal((first, "-1"), (second, "1")))
    undone = await us.submit({"type": "reversal", "reverses": journal.json["id"]})
    atomic = await us.call(
        "POST",
        "/v1/transactions/batch",
        json={
            "mode": "atomic",
            "transactions": [{**transfer(first, second, "1"), "idempotency_key": uuid4().hex}],
        },
    )
    frozen = await us.call("PATCH", f"/v1/wallets/{second}", json={"status": "FROZEN"})

    made = (paid, moved, held, captured, reversed_, taken, journal, undone)
    assert [one.json["status"] for one in made] == ["COMPLETED"] * len(made)
    assert atomic.json["items"][0]["status_code"] == 202
    assert frozen.status == 200
    assert (await us.get(f"/v1/wallets/{first}/entries")).json["items"]
    assert (await us.get(f"/v1/wallets/{second}/holds")).json["items"]


async def test_a_grant_opens_a_wallet_and_its_end_closes_it(
    neighbours: Neighbours, database: Connection
) -> None:
    wallet = await neighbours.them.create_wallet()
    paid = await neighbours.them.submit(deposit(wallet, "5"))
    await grant_wallet(database, UUID(wallet), client=neighbours.our_name, actor="test")
    seen = await neighbours.us.get(f"/v1/wallets/{wallet}")
    listed = [one["id"] for one in (await neighbours.us.get("/v1/wallets")).json["items"]]
    read = await neighbours.us.get(f"/v1/transactions/{paid.json['id']}")
    spent = await neighbours.us.submit(transfer(wallet, neighbours.ours, "1"))
    await revoke_grant(database, UUID(wallet), client=neighbours.our_name, actor="test")

    async def closed() -> Answer | None:
        answer = await neighbours.us.get(f"/v1/wallets/{wallet}")
        return answer if answer.status == 404 else None

    await eventually(closed, what="the grant is over", within_s=3)
    refused = await neighbours.us.submit(withdrawal(wallet, "1"))
    assert (seen.status, read.status) == (200, 200)
    assert wallet in listed
    assert spent.json["status"] == "COMPLETED"
    assert (refused.status, refused.code) == (404, "wallet_not_found")
    # What it submitted stays its own to read.
    assert (await neighbours.us.get(f"/v1/transactions/{spent.json['id']}")).status == 200


async def test_one_key_with_all_and_one_with_its_own_are_one_submitter(
    make_client: MakeClient,
) -> None:
    name = f"c{uuid4().hex}"
    everything, own = await make_client(name), await make_client(name, reach=Reach.OWN)
    wallet = await everything.create_wallet()
    key = uuid4().hex
    first = await own.submit(deposit(wallet, "1"), key=key)
    again = await everything.submit(deposit(wallet, "1"), key=key)

    assert first.json["id"] == again.json["id"]
    # Whoever reaches all sees both entries.
    assert len(again.json["entries"]) == 2
    assert len(first.json["entries"]) == 1


async def test_a_wallet_from_before_makers_were_noted_is_for_those_who_reach_all(
    make_client: MakeClient, database: Connection
) -> None:
    name = f"c{uuid4().hex}"
    everything, own = await make_client(name), await make_client(name, reach=Reach.OWN)
    wallet = await everything.create_wallet()
    await database.execute("UPDATE wallets SET created_by = NULL WHERE id = $1", UUID(wallet))

    assert (await everything.get(f"/v1/wallets/{wallet}")).status == 200
    assert (await own.get(f"/v1/wallets/{wallet}")).status == 404
