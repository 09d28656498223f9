"""How a transaction came in and what it waits for, as operators read it."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.scopes import Reach
from runtime.postgres.pool import Connection
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.integration.processor.ruling import add_rule
from tests.support import Answer, deposit, eventually, requested, transfer


async def _submitted(api: CheckedApi, body: dict[str, Any], **headers: str) -> Answer:
    named = {"Idempotency-Key": uuid4().hex, "Prefer": "wait=20"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call("POST", "/v1/transactions", json=body, headers=named)


async def _processing(api: CheckedApi, transaction_id: str) -> Any:
    answer = await api.get(f"/v1/transactions/{transaction_id}/processing")
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize(("flags", "is_kept"), [("01", True), ("00", False)])
async def test_a_transaction_names_its_request_and_its_trace(
    api: CheckedApi, wallet: str, flags: str, *, is_kept: bool
) -> None:
    request_id, trace_id = f"checkout-{uuid4().hex}", uuid4().hex
    paid = await _submitted(
        api,
        deposit(wallet, "1.00"),
        X_Request_Id=request_id,
        traceparent=f"00-{trace_id}-{uuid4().hex[:16]}-{flags}",
    )

    assert await _processing(api, paid.json["id"]) == {
        "transaction_id": paid.json["id"],
        "submitter": "demo",
        "channel": "http",
        "idempotency_key": paid.json["idempotency_key"],
        "request_id": request_id,
        "trace_id": trace_id,
        "is_trace_kept": is_kept,
        "is_unannounced": False,
        "announced_again": 0,
        "next_announcement_at": None,
        "review_ids": [],
    }


async def test_without_a_name_of_its_own_a_request_is_called_as_its_trace(
    api: CheckedApi, wallet: str
) -> None:
    paid = await _submitted(api, deposit(wallet, "1.00"))
    found = await _processing(api, paid.json["id"])

    assert found["request_id"] == found["trace_id"] == paid.headers["X-Request-Id"]


async def test_what_came_over_amqp_without_any_name_has_none(
    doors: CheckedDoors, api: CheckedApi, wallet: str
) -> None:
    key = uuid4().hex
    await doors.upstream.publish(requested(deposit(wallet, "1.00"), key=key))

    async def posted() -> Any:
        items = (await api.get("/v1/transactions", idempotency_key=key)).json["items"]
        return items and items[0]["status"] == "COMPLETED" and items[0]

    found = await _processing(api, (await eventually(posted, what="it is posted"))["id"])

    assert (found["channel"], found["submitter"]) == ("amqp", "demo")
    assert (found["request_id"], found["trace_id"], found["is_trace_kept"]) == (None, None, False)


async def test_a_mark_and_the_reconcilers_work_are_told(
    api: CheckedApi, books: Connection, wallet: str
) -> None:
    paid = (await _submitted(api, deposit(wallet, "1.00"))).json
    transaction = books.transaction()
    await transaction.start()
    await books.execute(
        "INSERT INTO unannounced_transactions VALUES (0, 'demo', $1)", UUID(paid["id"])
    )
    await books.execute(
        "INSERT INTO stale_transactions VALUES ($1, 3, clock_timestamp() + interval '1 hour')",
        UUID(paid["id"]),
    )
    await transaction.commit()
    try:
        found = await _processing(api, paid["id"])
    finally:
        await books.execute("DELETE FROM unannounced_transactions")
        await books.execute("DELETE FROM stale_transactions WHERE attempts = 3")

    assert (found["is_unannounced"], found["announced_again"]) == (True, 3)
    assert found["next_announcement_at"] is not None


async def test_what_a_rule_holds_back_names_its_review(api: CheckedApi, books: Connection) -> None:
    rich, poor = await api.create_wallet(), await api.create_wallet()
    await api.deposit(rich, "5.00")
    name = f"first-{uuid4().hex}"
    await add_rule(books, name, "first_destination", {}, action="review", wallets=[UUID(rich)])
    held = await api.submit(transfer(rich, poor, "1.00"), wait=None)

    async def reviewed() -> Any:
        return (await _processing(api, held.json["id"]))["review_ids"]

    [review_id] = await eventually(reviewed, what="it is held back")
    reviews = (await api.get("/v1/reviews", state="OPEN", limit="200")).json["items"]
    assert [one["id"] for one in reviews if one["rule"] == name] == [review_id]
    await api.call("POST", f"/v1/reviews/{review_id}/refuse", json={"reason": "a test"})


async def test_of_others_transactions_an_own_key_reads_nothing(
    make_client: MakeClient,
) -> None:
    us, them = await make_client(reach=Reach.OWN), await make_client(reach=Reach.OWN)
    ours, theirs = await us.create_wallet(), await them.create_wallet()
    await them.deposit(theirs, "5.00")
    shared = (await them.submit(transfer(theirs, ours, "1.00"))).json["id"]

    answers = [await us.get(f"/v1/transactions/{one}/processing") for one in (shared, str(uuid4()))]

    assert [(one.status, one.code) for one in answers] == [(404, "transaction_not_found")] * 2
    assert (await _processing(them, shared))["transaction_id"] == shared
