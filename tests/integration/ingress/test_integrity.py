"""Operators read how far the books are checked, and have the whole of them verified."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from contracts.scopes import Scope
from runtime.postgres.pool import Connection
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import eventually

REQUEST = "/v1/integrity/verifications"


async def _ended(api: CheckedApi, verification_id: str) -> Any:
    async def ended() -> Any:
        last = (await api.get("/v1/integrity")).json["verification"]
        assert last["id"] == verification_id
        return last["state"] not in {"REQUESTED", "RUNNING"} and last

    return await eventually(ended, what="the verification has ended")


async def _findings(api: CheckedApi, **parameters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = (await api.get("/v1/integrity/findings", **parameters)).json
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


async def test_a_verification_is_made_told_and_audited(
    make_client: MakeClient, api: CheckedApi
) -> None:
    wallet = await api.create_wallet()
    await api.deposit(wallet, "1.00")
    name = f"auditing-{uuid4().hex}"
    asking = await make_client(name)

    asked = await asking.call("POST", REQUEST)
    verification = await _ended(asking, asked.json["id"])

    assert (asked.status, asked.json["state"]) == (202, "REQUESTED")
    assert verification["state"] == "ENDED", verification
    assert verification["error"] is None
    assert verification["requested_by"] == name
    assert verification["wallets"] >= 1
    assert verification["transactions"] >= 1
    assert verification["entries"] >= 2
    assert verification["rows_done"] >= verification["rows_total"]
    subject = f"verification:{verification['id']}"
    records = (await api.get("/v1/audit", subject=subject)).json["items"]
    assert [(one["actor"], one["action"]) for one in records] == [
        ("reconciler", "verification.ended"),
        (name, "verification.requested"),
    ]
    assert records[0]["detail"]["transactions"] == verification["transactions"]


async def test_one_that_is_open_is_the_answer_to_whoever_asks_meanwhile(
    api: CheckedApi, books: Connection
) -> None:
    await _settled(books)
    answers = await asyncio.gather(*(api.call("POST", REQUEST) for _ in range(8)))

    assert len({one.json["id"] for one in answers}) == 1
    assert sorted(one.status for one in answers) == [200] * 7 + [202]
    await _ended(api, answers[0].json["id"])


async def test_what_it_finds_is_listed_and_met_again_until_it_is_mended(
    api: CheckedApi, books: Connection
) -> None:
    await _settled(books)
    wallet = await api.create_wallet()
    await api.deposit(wallet, "1.00")
    # Behind the integrity check's back: nothing moves this wallet any more.
    change = "UPDATE wallets SET balance = balance + $2 WHERE id = $1::text::uuid"
    await books.execute(change, wallet, 5)
    try:
        first = await _ended(api, (await api.call("POST", REQUEST)).json["id"])
        [found] = [one for one in await _findings(api) if wallet in one["subject"]]
        second = await _ended(api, (await api.call("POST", REQUEST)).json["id"])
    finally:
        await books.execute(change, wallet, -5)
    [again] = [one for one in await _findings(api, limit="1") if wallet in one["subject"]]
    third = await _ended(api, (await api.call("POST", REQUEST)).json["id"])
    [kept] = [one for one in await _findings(api) if wallet in one["subject"]]

    assert first["findings"] >= 1
    assert second["findings"] >= 1
    assert third["findings"] < second["findings"]
    assert (found["check"], found["last_found_at"]) == ("wallet_balance", found["found_at"])
    assert found["found_at"] < again["last_found_at"] < third["started_at"]
    assert kept == again
    assert (await api.get("/v1/integrity")).json["findings"] >= 1


async def test_findings_come_page_by_page(api: CheckedApi, books: Connection) -> None:
    names = [f"test-{uuid4().hex}" for _ in range(3)]
    rows = [(name, subject) for name in names for subject in ("wallet é", "wallet b")]
    await books.executemany(
        "INSERT INTO integrity_findings (check_name, subject, detail) VALUES ($1, $2, 'why')", rows
    )
    try:
        for limit in ("1", "4", "200"):
            found = [(one["check"], one["subject"]) for one in await _findings(api, limit=limit)]
            assert len(found) == len(set(found))
            assert sorted(one for one in found if one[0] in names) == sorted(rows)
    finally:
        await books.execute("DELETE FROM integrity_findings WHERE check_name = ANY ($1)", names)


async def test_the_check_follows_what_is_accepted(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    accepted = datetime.fromisoformat((await api.deposit(wallet, "1.00")).json["created_at"])

    async def checked() -> bool:
        until = (await api.get("/v1/integrity")).json["checked_until"]
        return until is not None and datetime.fromisoformat(until) > accepted

    await eventually(checked, what="the check has passed it")
    assert accepted < datetime.now(tz=UTC)


async def test_readers_may_look_and_not_ask(make_client: MakeClient) -> None:
    reader = await make_client(scopes=[Scope.OPERATIONS_READ])

    assert (await reader.get("/v1/integrity")).status == 200
    assert (await reader.get("/v1/integrity/findings")).status == 200
    refused = await reader.call("POST", REQUEST)
    assert (refused.status, refused.code) == (403, "insufficient_scope")


async def test_a_body_and_a_cursor_of_another_list_are_refused(api: CheckedApi) -> None:
    body = await api.call("POST", REQUEST, json={"all": True})
    other = (await api.get("/v1/transactions", limit="1")).json["next_cursor"]
    cursors = [
        await api.get("/v1/integrity/findings", cursor=one) for one in (other or "x", "AAAAAAAA")
    ]

    assert (body.status, body.code) == (400, "invalid_parameter")
    assert [(one.status, one.code) for one in cursors] == [(400, "invalid_cursor")] * 2


async def _settled(books: Connection) -> None:
    async def none_open() -> bool:
        return not await books.fetchval("SELECT count(*) FROM verifications WHERE ended_at IS NULL")

    await eventually(none_open, what="no verification is open")
