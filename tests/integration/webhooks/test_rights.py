"""Webhooks follow the rights of their owners: what those may not see any more is not sent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pytest

from contracts.scopes import Reach, Scope
from notifier.webhooks.delivery import NOT_PERMITTED
from tests.conftest import Connection
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient, new_api_key
from tests.integration.people.issuing import OtherIssuer
from tests.integration.people.persons import People
from tests.integration.webhooks.calls import deliveries_of, make_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.support import eventually, transfer

MakeOwner = Callable[[str], Awaitable["Owner"]]


@dataclass(frozen=True)
class Owner:
    """Somebody with a wallet and the rights to have webhooks."""

    name: str
    """The submitter."""
    api: CheckedApi
    wallet: str


_ALL_OF_A_PERSON: Final = "UPDATE users SET {} WHERE 'user:' || id = $1"
_LOST: Final = {
    "revoked key": "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE client = $1",
    "expired key": "UPDATE api_keys SET expires_at = clock_timestamp() WHERE client = $1",
    "key without the scope": "UPDATE api_keys SET scopes = '{webhooks:write}' WHERE client = $1",
    "disabled account": _ALL_OF_A_PERSON.format("status = 'DISABLED'"),
    "deleted account": _ALL_OF_A_PERSON.format(
        "status = 'DELETED', deleted_at = clock_timestamp(), password_hash = NULL"
    ),
}
"""Ways to lose every right; what the command line and the API do, without their doors."""
_LOWERED: Final = {
    "key": "UPDATE api_keys SET reach = 'own' WHERE client = $1",
    "account": _ALL_OF_A_PERSON.format("role = 'customer'"),
}


@pytest.fixture
async def make_owner(
    doors: CheckedDoors, make_client: MakeClient, people: People
) -> AsyncIterator[MakeOwner]:
    """Make a client, or somebody with an account, who reaches everybody's."""
    opened: list[CheckedApi] = []

    async def make(kind: str) -> Owner:
        if "key" in kind:
            name = f"c{uuid4().hex}"
            api = await make_client(name)
            return Owner(name, api, await api.create_wallet())
        person = await people.person("operator")
        name = f"user:{await person.id()}"
        api = CheckedApi(doors.system.http_url, person.tokens["access_token"])
        opened.append(await api.__aenter__())
        return Owner(name, api, await api.create_wallet())

    yield make
    for api in opened:
        await api.__aexit__(None, None, None)


async def _attempts(database: Connection, webhook_id: str) -> list[Any]:
    return list(
        await database.fetch(
            "SELECT d.status, a.error, a.response_status FROM webhook_deliveries AS d"
            " LEFT JOIN webhook_attempts AS a ON a.delivery_id = d.id"
            " WHERE d.webhook_id = $1 ORDER BY d.id, a.number",
            webhook_id,
        )
    )


async def _make_due(database: Connection, webhook_id: str) -> None:
    await database.execute(
        "UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp() WHERE webhook_id = $1",
        webhook_id,
    )


@pytest.mark.parametrize("kind", _LOST)
async def test_an_owner_without_rights_gets_nothing_of_what_waits_or_happens(
    kind: str,
    make_owner: MakeOwner,
    make_client: MakeClient,
    receiver: Receiver,
    database: Connection,
) -> None:
    owner, witness = await make_owner(kind), await make_client()
    made = await make_webhook(owner.api, f"{receiver.url}/lost", wallet_ids=[owner.wallet])
    await make_webhook(witness, f"{receiver.url}/witness", wallet_ids=[owner.wallet])
    receiver.statuses["/lost"] = [500]
    waiting = await witness.deposit(owner.wallet, "1.00")
    assert (await receiver.next("/lost")).event["id"] == waiting.json["id"]

    async def is_written_down() -> bool:
        return any(row["response_status"] for row in await _attempts(database, made["id"]))

    await eventually(is_written_down, what="the first attempt has ended")
    await database.execute(_LOST[kind], owner.name)
    await _make_due(database, made["id"])

    async def ended() -> list[Any] | None:
        rows = await _attempts(database, made["id"])
        return rows if rows[-1]["status"] != "PENDING" else None

    rows = await eventually(ended, what="what waits has ended")
    assert [row["error"] for row in rows] == [None, NOT_PERMITTED]
    assert {row["status"] for row in rows} == {"FAILED"}

    later = await witness.deposit(owner.wallet, "2.00")
    events = [(await receiver.next("/witness")).event["id"] for _ in range(2)]
    assert later.json["id"] in events
    # What the witness got was written down in the commit that would have had the owner's.
    assert await _attempts(database, made["id"]) == rows
    assert receiver.count("/lost") == 1
    webhook = await database.fetchrow("SELECT status FROM webhooks WHERE id = $1", made["id"])
    assert webhook is not None
    assert webhook["status"] == "ACTIVE"


@pytest.mark.parametrize("kind", _LOWERED)
async def test_an_owner_lowered_to_its_own_gets_its_own_as_it_sees_it_now(
    kind: str,
    make_owner: MakeOwner,
    make_client: MakeClient,
    receiver: Receiver,
    database: Connection,
) -> None:
    owner, others = await make_owner(kind), await make_client()
    theirs = await others.create_wallet()
    made = await make_webhook(
        owner.api, f"{receiver.url}/lowered", wallet_ids=[owner.wallet, theirs]
    )
    receiver.statuses["/lowered"] = [500, 500]
    first = await others.deposit(theirs, "50.00")
    second = await others.submit(transfer(theirs, owner.wallet, "20.00"))
    seen = [(await receiver.next("/lowered")).event for _ in range(2)]
    assert {one["id"] for one in seen} == {first.json["id"], second.json["id"]}
    assert {len(one["wallets"]) for one in seen if one["id"] == second.json["id"]} == {2}

    async def are_written_down() -> bool:
        rows = await _attempts(database, made["id"])
        return [row["response_status"] for row in rows] == [500, 500]

    await eventually(are_written_down, what="the first attempts have ended")
    await database.execute(_LOWERED[kind], owner.name)
    await _make_due(database, made["id"])

    again = await receiver.next("/lowered")
    assert again.event["id"] == second.json["id"]
    assert [one["wallet_id"] for one in again.event["wallets"]] == [owner.wallet]
    assert again.event["idempotency_key"] is None
    again.verify(made["secret"])

    async def given_up() -> list[Any]:
        rows = await _attempts(database, made["id"])
        return [row for row in rows if row["error"] == NOT_PERMITTED]

    assert len(await eventually(given_up, what="the other is given up")) == 1
    await others.deposit(theirs, "1.00")
    last = await others.submit(transfer(theirs, owner.wallet, "3.00"))
    assert (await receiver.next("/lowered")).event["id"] == last.json["id"]


async def test_a_grant_that_was_taken_away_stops_what_waits_for_its_wallet(
    make_client: MakeClient, receiver: Receiver, database: Connection
) -> None:
    name = f"c{uuid4().hex}"
    granted, maker = await make_client(name, reach=Reach.OWN), await make_client()
    wallet = await maker.create_wallet()
    await database.execute(
        "INSERT INTO wallet_grants (client, wallet_id, granted_by) VALUES ($1, $2, 'test')",
        name,
        wallet,
    )
    made = await make_webhook(granted, f"{receiver.url}/granted", wallet_ids=[wallet])
    receiver.statuses["/granted"] = [500] * 100
    await maker.deposit(wallet, "1.00")
    await receiver.next("/granted")
    await database.execute("DELETE FROM wallet_grants WHERE client = $1", name)

    async def given_up() -> bool:
        # It is remembered for a second whose the wallet is.
        await _make_due(database, made["id"])
        rows = await _attempts(database, made["id"])
        return bool(rows[-1]["error"] == NOT_PERMITTED)

    await eventually(given_up, what="it is given up")


async def test_another_key_of_the_client_keeps_its_webhooks_and_rights_come_back(
    doors: CheckedDoors, make_client: MakeClient, receiver: Receiver, database: Connection
) -> None:
    name = f"c{uuid4().hex}"
    old = await make_client(name, reach=Reach.OWN)
    wallet = await old.create_wallet()
    made = await make_webhook(old, f"{receiver.url}/kept")
    await database.execute(_LOST["revoked key"], name)
    async with CheckedApi(
        doors.system.http_url, await new_api_key(doors.database_url, name, reach=Reach.ALL)
    ) as new:
        paid = await new.deposit(wallet, "1.00")
        received = await receiver.next("/kept")
        assert received.event["id"] == paid.json["id"]
        # Made with less, it does not get more.
        stranger = await make_client()
        await stranger.deposit(await stranger.create_wallet(), "9.00")
        last = await new.deposit(wallet, "2.00")
        assert (await receiver.next("/kept")).event["id"] == last.json["id"]
        assert len(await deliveries_of(new, made["id"])) == 2


async def test_a_key_that_reaches_less_narrows_the_webhook_that_it_changes(
    make_client: MakeClient, receiver: Receiver
) -> None:
    name = f"c{uuid4().hex}"
    wide, narrow = await make_client(name), await make_client(name, reach=Reach.OWN)
    made = await make_webhook(wide, f"{receiver.url}/before")
    path = f"/v1/webhooks/{made['id']}"
    await narrow.call("PATCH", path, json={"url": f"{receiver.url}/after"})
    stranger = await make_client()
    await stranger.deposit(await stranger.create_wallet(), "9.00")
    mine = await narrow.deposit(await narrow.create_wallet(), "1.00")

    assert (await receiver.next("/after")).event["id"] == mine.json["id"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_who_may_not_follow_events_neither_makes_nor_changes_a_webhook(
    method: str, make_client: MakeClient, receiver: Receiver
) -> None:
    name = f"c{uuid4().hex}"
    made = await make_webhook(await make_client(name), f"{receiver.url}/in")
    blind = await make_client(name, scopes=[Scope.WEBHOOKS_WRITE])
    path = "/v1/webhooks" if method == "POST" else f"/v1/webhooks/{made['id']}"
    answer = await blind.call(
        method, path, json={"url": f"{receiver.url}/out", "event_types": ["*"]}
    )

    assert (answer.status, answer.code) == (403, "insufficient_scope")


async def test_another_issuer_s_people_make_none_since_nobody_says_when_they_leave(
    people: People, other_issuer: OtherIssuer, receiver: Receiver
) -> None:
    answer = await people.nobody.call(
        "POST",
        "/v1/webhooks",
        json={"url": f"{receiver.url}/in", "event_types": ["*"]},
        headers={"Authorization": f"Bearer {other_issuer.token()}"},
    )

    assert (answer.status, answer.code) == (403, "insufficient_scope")
