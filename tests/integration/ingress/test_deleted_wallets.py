"""Deleted wallets: closed and hidden from lists, their history kept."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from runtime.postgres.pool import connect
from tests.conftest import Connection
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import Answer, transfer, withdrawal


@pytest.fixture
async def database(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """The shared system's database."""
    connection = await connect(doors.database_url, name="test")
    yield connection
    await connection.close()


async def _delete(api: CheckedApi, wallet: str, if_match: str | None = None) -> Answer:
    headers = None if if_match is None else {"If-Match": if_match}
    return await api.call("DELETE", f"/v1/wallets/{wallet}", headers=headers)


async def _read(api: CheckedApi, wallet: str) -> Answer:
    return await api.get(f"/v1/wallets/{wallet}")


async def test_a_deleted_wallet_is_closed_and_stays_readable_with_its_history(
    api: CheckedApi,
) -> None:
    wallet = await api.create_wallet(metadata={"a": 1})
    await api.deposit(wallet, "5.00")
    await api.submit(withdrawal(wallet, "5.00"))
    before = (await _read(api, wallet)).json
    deleted = await _delete(api, wallet)
    after = (await _read(api, wallet)).json
    entries = await api.get(f"/v1/wallets/{wallet}/entries")
    balance = await api.get(f"/v1/wallets/{wallet}/balance")
    transactions = await api.get("/v1/transactions", wallet_id=wallet)

    assert (deleted.status, deleted.body) == (204, b"")
    assert (before["deleted_at"], before["status"]) == (None, "ACTIVE")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"status", "updated_at", "deleted_at"}
    assert after["status"] == "CLOSED"
    assert after["deleted_at"] == after["updated_at"] > before["updated_at"]
    assert [one["amount"] for one in entries.json["items"]] == ["-5.00", "5.00"]
    assert balance.json["balance"] == "0.00"
    assert len(transactions.json["items"]) == 2


async def test_lists_leave_deleted_wallets_out_unless_they_are_asked_for(api: CheckedApi) -> None:
    owner = uuid4().hex
    kept = await api.create_wallet("NOK", owner_id=owner)
    closed = await api.create_wallet("NOK", owner_id=owner)
    deleted = await api.create_wallet("NOK", owner_id=owner)
    await api.call("PATCH", f"/v1/wallets/{closed}", json={"status": "CLOSED"})
    await _delete(api, deleted)

    async def found(**filters: str) -> list[str]:
        page = await api.get("/v1/wallets", owner_id=owner, **filters)
        return [one["id"] for one in page.json["items"]]

    assert await found() == await found(include_deleted="false") == [kept, closed]
    assert await found(include_deleted="true") == [kept, closed, deleted]
    assert await found(status="CLOSED") == [closed]
    assert await found(status="CLOSED", include_deleted="true") == [closed, deleted]
    everything = await api.get("/v1/wallets", currency="NOK", include_deleted="true", limit="200")
    without = await api.get("/v1/wallets", currency="NOK", limit="200")
    ids = [{one["id"] for one in page.json["items"]} for page in (everything, without)]
    assert ids[0] - ids[1] >= {deleted}
    assert ids[1] >= {kept, closed}


async def test_a_wallet_is_deleted_once_however_often_it_is_asked_for(
    api: CheckedApi, database: Connection
) -> None:
    wallet = await api.create_wallet()
    tag = (await _read(api, wallet)).headers["ETag"]
    answers = await asyncio.gather(*(_delete(api, wallet) for _ in range(10)))
    deleted = (await _read(api, wallet)).json
    late = [await _delete(api, wallet), await _delete(api, wallet, tag)]
    audited = await database.fetch(
        "SELECT actor, action FROM audit_log WHERE subject = $1", f"wallet:{wallet}"
    )

    assert {one.status for one in (*answers, *late)} == {204}
    assert (await _read(api, wallet)).json == deleted
    assert [tuple(row) for row in audited] == [("demo", "wallet.deleted")]


async def test_a_wallet_with_money_or_in_its_overdraft_is_not_deleted(
    api: CheckedApi, database: Connection
) -> None:
    wallet = await api.create_wallet(overdraft_limit="5.00")
    await api.submit(withdrawal(wallet, "1.00"))
    overdrawn = await _delete(api, wallet)
    await api.deposit(wallet, "2.00")
    full = await _delete(api, wallet)
    await api.submit(withdrawal(wallet, "1.00"))
    await database.execute("UPDATE wallets SET held = 300 WHERE id = $1", wallet)
    held = [
        await _delete(api, wallet),
        await api.call("PATCH", f"/v1/wallets/{wallet}", json={"status": "CLOSED"}),
    ]
    unchanged = (await _read(api, wallet)).json
    await database.execute("UPDATE wallets SET held = 0 WHERE id = $1", wallet)

    for refused in (overdrawn, full, *held):
        assert (refused.status, refused.code) == (409, "wallet_not_empty")
    assert held[0].json["detail"] == held[1].json["detail"] != full.json["detail"]
    assert (unchanged["status"], unchanged["deleted_at"]) == ("ACTIVE", None)
    assert (await _delete(api, wallet)).status == 204


@pytest.mark.parametrize("status", ["FROZEN", "CLOSED"])
async def test_a_frozen_and_a_closed_wallet_are_deleted_too(api: CheckedApi, status: str) -> None:
    wallet = await api.create_wallet(kind="internal")
    await api.call("PATCH", f"/v1/wallets/{wallet}", json={"status": status})

    assert (await _delete(api, wallet)).status == 204
    assert (await _read(api, wallet)).json["deleted_at"] is not None


async def test_a_deleted_wallet_is_changed_no_more_and_moves_no_money(api: CheckedApi) -> None:
    wallet, other = await api.create_wallet(), await api.create_wallet()
    await api.deposit(other, "5.00")
    await _delete(api, wallet)
    tag = (await _read(api, wallet)).headers["ETag"]
    changes: list[dict[str, object]] = [
        {"status": "ACTIVE"},
        {"status": "CLOSED"},
        {"metadata": {"a": 1}},
    ]
    changed = [
        await api.call("PATCH", f"/v1/wallets/{wallet}", json=fields, headers={"If-Match": tag})
        for fields in changes
    ]
    paid = await api.submit(transfer(other, wallet, "1.00"))

    for refused in changed:
        assert (refused.status, refused.code) == (409, "wallet_closed")
        assert "deleted" in refused.json["detail"]
    assert paid.json["failure"]["code"] == "wallet_closed"


async def test_a_deletion_rests_on_the_version_that_it_names(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    tag = (await _read(api, wallet)).headers["ETag"]
    await api.call("PATCH", f"/v1/wallets/{wallet}", json={"metadata": {"a": 1}})
    stale = await _delete(api, wallet, tag)
    unreadable = await _delete(api, wallet, "18")
    unchanged = (await _read(api, wallet)).json["deleted_at"]
    current = await _delete(api, wallet, (await _read(api, wallet)).headers["ETag"])

    assert (stale.status, stale.code) == (412, "precondition_failed")
    assert (unreadable.status, unreadable.code) == (400, "invalid_parameter")
    assert unchanged is None
    assert current.status == 204


async def test_a_wallet_that_is_not_there_is_not_deleted(api: CheckedApi) -> None:
    answer = await _delete(api, str(uuid4()))

    assert (answer.status, answer.code) == (404, "wallet_not_found")


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "CLF"])
async def test_deleting_and_depositing_at_once_never_leaves_money_in_a_deleted_wallet(
    api: CheckedApi, currency: str
) -> None:
    wallet = await api.create_wallet(currency)
    deleted, paid = await asyncio.gather(_delete(api, wallet), api.deposit(wallet, "1", currency))
    if deleted.status == 204:
        assert paid.json["failure"]["code"] == "wallet_closed"
    else:
        assert (deleted.code, paid.json["status"]) == ("wallet_not_empty", "COMPLETED")


async def test_a_key_finds_the_wallet_that_it_made_after_it_was_deleted(api: CheckedApi) -> None:
    headers, body = {"Idempotency-Key": uuid4().hex}, {"currency": "USD"}
    made = await api.call("POST", "/v1/wallets", json=body, headers=headers)
    await _delete(api, made.json["id"])
    again = await api.call("POST", "/v1/wallets", json=body, headers=headers)

    assert (again.status, again.json["id"]) == (200, made.json["id"])
    assert again.json["deleted_at"] is not None
