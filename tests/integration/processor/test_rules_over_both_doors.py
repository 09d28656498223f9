"""Rules, reviews and clients' limits over the real wire, on both doors, to proven books."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.scopes import Scope
from runtime.postgres.pool import Connection, connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, new_api_key
from tests.integration.processor.correspondents import ended
from tests.integration.processor.proven import amounts_of, proven_doors, rich_and_poor
from tests.integration.processor.ruling import add_rule, limit_client, velocity
from tests.support import eventually, requested, transfer
from tools.stack import Stack

_REVIEWS = "/v1/reviews"


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system of this module alone: its rules are nobody else's."""
    async with proven_doors(stack, template, tmp_path_factory.mktemp("ruled")) as opened:
        yield opened


@pytest.fixture
def api(doors: CheckedDoors) -> CheckedApi:
    return doors.api


@pytest.fixture
async def books(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """The system's database."""
    connection = await connect(doors.database_url, name="test")
    yield connection
    await connection.close()


async def _submit(doors: CheckedDoors, door: str, body: dict[str, Any], key: str) -> None:
    if door == "http":
        answer = await doors.api.call(
            "POST", "/v1/transactions", json=body, headers={"Idempotency-Key": key}
        )
        assert answer.status in {200, 202}, answer.body
    else:
        await doors.upstream.publish(requested(body, key=key), routing_key=str(uuid4()))


async def _review_of(api: CheckedApi, transaction_id: str) -> dict[str, Any]:
    """Return the open review of a transaction, once it is there."""

    async def look() -> dict[str, Any] | None:
        items = (await api.get(_REVIEWS, state="OPEN")).json["items"]
        return next((one for one in items if one["transaction_id"] == transaction_id), None)

    return await eventually(look, what=f"the review of {transaction_id}", within_s=10.0)


async def _by_key(api: CheckedApi, key: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        items = (await api.get("/v1/transactions", idempotency_key=key)).json["items"]
        return items[0] if items else None

    return await eventually(look, what=f"the transaction {key}", within_s=10.0)


async def _decide(api: CheckedApi, review: dict[str, Any], verb: str) -> Any:
    return await api.call(
        "POST", f"{_REVIEWS}/{review['id']}/{verb}", json={"reason": f"to {verb} it"}
    )


@pytest.mark.parametrize("door", ["http", "amqp"])
async def test_a_refusal_by_a_rule_is_the_same_on_both_doors_and_under_its_key(
    doors: CheckedDoors, api: CheckedApi, books: Connection, door: str
) -> None:
    rich, poor = await rich_and_poor(api)
    parameters = velocity("wallet", sum_max={"USD": 5000})
    await add_rule(books, f"sum-{door}", "velocity", parameters, wallets=[UUID(rich)])
    keys = [uuid4().hex for _ in range(3)]
    for key in keys:
        await _submit(doors, door, transfer(rich, poor, "25.00"), key)
        await ended(api, key)
    await _submit(doors, door, transfer(rich, poor, "25.00"), keys[2])
    results = [await ended(api, key) for key in keys]

    assert [one["status"] for one in results] == ["COMPLETED", "COMPLETED", "FAILED"]
    assert results[2]["failure"] == {
        "code": "rule_refused", "detail": f"the rule 'sum-{door}' refuses the transaction",
    }  # fmt: skip
    assert await amounts_of(api, rich) == ("50.00", "0.00", "50.00")


@pytest.mark.parametrize("door", ["http", "amqp"])
async def test_what_is_held_back_is_posted_once_it_is_approved(
    doors: CheckedDoors, api: CheckedApi, books: Connection, door: str
) -> None:
    rich, poor = await rich_and_poor(api)
    parameters = {"USD": {"most": 1000}}
    await add_rule(
        books, f"large-{door}", "amount", parameters, action="review", wallets=[UUID(rich)]
    )
    key, other = uuid4().hex, uuid4().hex
    await _submit(doors, door, transfer(rich, poor, "30.00"), key)
    held = await _by_key(api, key)
    review = await _review_of(api, held["id"])
    # Replayed and overtaken meanwhile.
    await _submit(doors, door, transfer(rich, poor, "30.00"), key)
    await _submit(doors, door, transfer(rich, poor, "10.00"), other)
    assert (await ended(api, other))["status"] == "COMPLETED"
    assert (await api.get(f"/v1/transactions/{held['id']}")).json["status"] == "PENDING"
    approved = await _decide(api, review, "approve")
    again = await _decide(api, review, "refuse")

    assert (approved.status, approved.json["state"]) == (200, "APPROVED")
    assert (again.status, again.code) == (409, "review_decided")
    assert (await ended(api, key))["status"] == "COMPLETED"
    assert await amounts_of(api, poor) == ("40.00", "0.00", "40.00")


async def test_what_is_refused_fails_and_can_be_waited_for(
    doors: CheckedDoors, api: CheckedApi, books: Connection
) -> None:
    rich, poor = await rich_and_poor(api)
    await add_rule(books, "first", "first_destination", {}, action="review", wallets=[UUID(rich)])
    key = uuid4().hex
    await _submit(doors, "http", transfer(rich, poor, "30.00"), key)
    held = await _by_key(api, key)
    review = await _review_of(api, held["id"])
    refused = await _decide(api, review, "refuse")

    assert refused.json["transaction_status"] == "FAILED"
    found = await ended(api, key)
    assert found["failure"]["code"] == "rule_refused"
    assert found["completed_at"] is not None


async def test_holds_count_when_they_hold_and_journals_by_their_legs(
    api: CheckedApi, books: Connection
) -> None:
    rich, poor = await rich_and_poor(api)
    parameters = velocity("wallet", sum_max={"USD": 5000})
    await add_rule(books, "held-sum", "velocity", parameters, wallets=[UUID(rich)])
    body = {"type": "hold", "source_wallet_id": rich, "amount": "40.00", "currency": "USD"}
    hold = (await api.submit({**body, "destination_wallet_id": poor})).json
    capture = (await api.submit({"type": "capture", "hold_id": hold["id"]})).json
    legs = [
        {"wallet_id": rich, "amount": "-11.00", "currency": "USD"},
        {"wallet_id": poor, "amount": "11.00", "currency": "USD"},
    ]
    journal = (await api.submit({"type": "journal", "legs": legs})).json
    legs = [{**leg, "amount": leg["amount"].replace("11", "10")} for leg in legs]
    smaller = (await api.submit({"type": "journal", "legs": legs})).json

    assert (hold["status"], capture["status"]) == ("COMPLETED", "COMPLETED")
    assert journal["failure"]["code"] == "rule_refused"
    assert smaller["status"] == "COMPLETED"


@pytest.mark.parametrize("door", ["http", "amqp"])
async def test_a_clients_limit_is_the_submitters_on_both_doors(
    doors: CheckedDoors, api: CheckedApi, books: Connection, door: str
) -> None:
    rich, poor = await rich_and_poor(api)
    await limit_client(books, "demo", per_transaction={"USD": 2000})
    try:
        key = uuid4().hex
        await _submit(doors, door, transfer(rich, poor, "20.01"), key)
        found = await ended(api, key)
        small = uuid4().hex
        await _submit(doors, door, transfer(rich, poor, "20.00"), small)
        assert (await ended(api, small))["status"] == "COMPLETED"
    finally:
        await books.execute("DELETE FROM clients WHERE name = 'demo'")
        await books.execute("UPDATE rules_versions SET enforced_from = clock_timestamp()")

    assert found["failure"] == {
        "code": "limit_exceeded",
        "detail": "the client's limit for one transaction is exceeded",
    }


async def test_reviews_need_the_scopes_of_operators(doors: CheckedDoors, api: CheckedApi) -> None:
    async with CheckedApi(
        doors.system.http_url, await new_api_key(doors.database_url, "reader", [Scope.WALLETS_READ])
    ) as reader:
        assert (await reader.get(_REVIEWS)).code == "insufficient_scope"
    key = await new_api_key(doors.database_url, "watcher", [Scope.OPERATIONS_READ])
    async with CheckedApi(doors.system.http_url, key) as watcher:
        assert (await watcher.get(_REVIEWS)).status == 200
        answer = await _decide(watcher, {"id": str(uuid4())}, "approve")
        assert answer.code == "insufficient_scope"
    assert (await _decide(api, {"id": str(uuid4())}, "approve")).code == "review_not_found"
    answer = await api.call("POST", f"{_REVIEWS}/{uuid4()}/approve", json={"reason": " "})
    assert answer.code == "validation_failed"


async def test_reviews_are_paged_newest_first(api: CheckedApi) -> None:
    first = (await api.get(_REVIEWS, limit="1")).json
    assert len(first["items"]) == 1
    following = (await api.get(_REVIEWS, limit="1", cursor=first["next_cursor"])).json
    assert following["items"][0]["id"] < first["items"][0]["id"]
    assert (await api.get(_REVIEWS, state="NONE")).code == "invalid_parameter"
