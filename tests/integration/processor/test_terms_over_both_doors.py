"""Holds, captures, journals, reversals, batches and conditions, over HTTP and AMQP to their end."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias
from uuid import uuid4

import orjson
import pytest

from contracts.identifiers import external_wallet_id
from contracts.topology import EVENTS_EXCHANGE
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import dead_letters, ended, listening
from tests.integration.processor.proven import amounts_of, rich_and_poor
from tests.support import Upstream, eventually, requested, transfer

Submit: TypeAlias = Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture(params=["http", "amqp"])
async def submit(request: pytest.FixtureRequest, api: CheckedApi, upstream: Upstream) -> Submit:
    """Submit over one of the doors; returns the transaction at its end."""

    async def over_http(body: dict[str, Any]) -> dict[str, Any]:
        answer = await api.submit(body)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found

    async def over_amqp(body: dict[str, Any]) -> dict[str, Any]:
        key = uuid4().hex
        await upstream.publish(requested(body, key=key), routing_key=str(uuid4()))
        return await ended(api, key)

    return over_http if request.param == "http" else over_amqp


def _hold(source: str, amount: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "hold",
        "source_wallet_id": source,
        "amount": amount,
        "currency": "USD",
        **fields,
    }


async def test_a_hold_is_captured_in_parts(api: CheckedApi, submit: Submit) -> None:
    rich, poor = await rich_and_poor(api)
    hold = await submit(_hold(rich, "60.00", destination_wallet_id=poor))
    assert hold["hold"]["status"] == "OPEN"
    assert await amounts_of(api, rich) == ("100.00", "60.00", "40.00")

    part = {"type": "capture", "hold_id": hold["id"], "amount": "10.00", "final": False}
    assert (await submit(part))["status"] == "COMPLETED"
    last = await submit({"type": "capture", "hold_id": hold["id"]})

    assert (last["status"], last["amount"], last["hold_id"]) == ("COMPLETED", "50.00", hold["id"])
    assert await amounts_of(api, rich) == ("40.00", "0.00", "40.00")
    assert await amounts_of(api, poor) == ("60.00", "0.00", "60.00")
    read = (await api.get(f"/v1/transactions/{hold['id']}")).json
    assert read["hold"] | {"expires_at": None} == {
        "status": "CAPTURED",
        "remaining": "0.00",
        "captured": "60.00",
        "expires_at": None,
    }


async def test_a_hold_is_released(api: CheckedApi, submit: Submit) -> None:
    rich, _ = await rich_and_poor(api)
    hold = await submit(_hold(rich, "60.00"))
    release = {"type": "release", "hold_id": hold["id"]}
    assert (await submit(release))["status"] == "COMPLETED"
    assert (await submit(release))["failure"]["code"] == "hold_closed"
    assert await amounts_of(api, rich) == ("100.00", "0.00", "100.00")


async def test_what_refers_to_nothing_fails(submit: Submit) -> None:
    nothing = str(uuid4())
    capture = await submit({"type": "capture", "hold_id": nothing, "amount": "1.00"})
    reversal = await submit({"type": "reversal", "reverses": nothing})

    assert capture["failure"]["code"] == "hold_not_found"
    assert reversal["failure"]["code"] == "transaction_not_found"


async def test_the_world_outside_is_not_named_by_a_wallet(api: CheckedApi) -> None:
    rich, _ = await rich_and_poor(api)
    outside = str(external_wallet_id("USD"))
    named = (await api.submit(_hold(rich, "1.00", destination_wallet_id=outside))).json
    hold = (await api.submit(_hold(rich, "1.00"))).json
    capture = {"type": "capture", "hold_id": hold["id"], "destination_wallet_id": outside}
    answer = await api.submit(capture)

    assert named["failure"]["code"] == "not_permitted"
    assert answer.status == 422
    assert [one["pointer"] for one in answer.json["errors"]] == ["/destination_wallet_id"]


async def test_a_capture_is_refunded_in_part_and_then_whole(
    api: CheckedApi, submit: Submit
) -> None:
    rich, poor = await rich_and_poor(api)
    hold = await submit(_hold(rich, "60.00", destination_wallet_id=poor))
    capture = await submit({"type": "capture", "hold_id": hold["id"]})
    part = await submit({"type": "reversal", "reverses": capture["id"], "amount": "15.00"})
    rest = await submit({"type": "reversal", "reverses": capture["id"]})

    read = (await api.get(f"/v1/transactions/{capture['id']}")).json
    assert (read["status"], read["reversed_by"]) == ("REVERSED", rest["id"])
    assert (read["reversals"], read["reversed_amount"]) == ([part["id"], rest["id"]], "60.00")
    assert await amounts_of(api, rich) == ("100.00", "0.00", "100.00")


async def test_a_journal_moves_several_legs_at_once(api: CheckedApi, submit: Submit) -> None:
    rich, poor = await rich_and_poor(api)
    fees = await api.create_wallet(kind="internal")
    journal = await submit(
        {
            "type": "journal",
            "legs": [
                {"wallet_id": rich, "amount": "-50.00", "currency": "USD"},
                {"wallet_id": poor, "amount": "40.00", "currency": "USD"},
                {"wallet_id": fees, "amount": "7.50", "currency": "USD"},
                {"external": True, "amount": "2.50", "currency": "USD"},
            ],
        }
    )

    assert journal["status"] == "COMPLETED", journal["failure"]
    assert [one["amount"] for one in journal["legs"]] == ["-50.00", "40.00", "7.50", "2.50"]
    assert [one["balance_after"] for one in journal["entries"]][:3] == ["50.00", "40.00", "7.50"]
    found = (await api.get(f"/v1/wallets/{fees}/entries")).json["items"]
    assert [one["transaction_id"] for one in found] == [journal["id"]]


async def test_conditions_and_validity_are_judged_at_posting(
    api: CheckedApi, submit: Submit
) -> None:
    rich, poor = await rich_and_poor(api)
    body = transfer(rich, poor, "1.00")
    condition = {"wallet_id": rich, "available_at_least": "99.00"}
    good = await submit({**body, "conditions": [condition]})
    bad = await submit({**body, "conditions": [condition]})
    late = await submit({**body, "valid_until": "2026-01-01T00:00:00Z"})

    assert good["status"] == "COMPLETED"
    assert bad["failure"]["code"] == "condition_failed"
    assert late["failure"]["code"] == "expired"


async def test_an_event_tells_what_the_commit_left_wallets_as(
    api: CheckedApi, doors: CheckedDoors
) -> None:
    rich, poor = await rich_and_poor(api)
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE) as listener:
        hold = (await api.submit(_hold(rich, "60.00", destination_wallet_id=poor))).json
        capture = (await api.submit({"type": "capture", "hold_id": hold["id"]})).json
        events: dict[str, Any] = {}
        while not {hold["id"], capture["id"]} <= events.keys():
            event = orjson.loads((await listener.next()).body)
            events[event["id"]] = event

    [held] = events[hold["id"]]["wallets"]
    assert (held["balance"], held["held"], held["available"]) == ("100.00", "60.00", "40.00")
    assert events[hold["id"]]["hold"]["status"] == "OPEN"
    assert [one["wallet_id"] for one in events[capture["id"]]["wallets"]] == [rich, poor]


@pytest.mark.parametrize(
    ("currencies", "word"), [(["USD", "USD"], "USD"), (["USD", "EUR"], "several")]
)
async def test_a_journal_s_event_is_routed_by_its_currency(
    api: CheckedApi, doors: CheckedDoors, currencies: list[str], word: str
) -> None:
    legs = [
        {"wallet_id": await api.create_wallet(one, kind="internal"), "amount": amount}
        | {"currency": one}
        for one in currencies
        for amount in ("-1.00", "1.00")
    ]
    binding = f"transaction.completed.journal.{word}"
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE, binding=binding) as listener:
        journal = (await api.submit({"type": "journal", "legs": legs})).json
        event = orjson.loads((await listener.next()).body)

    assert event["id"] == journal["id"]


async def test_an_atomic_message_is_posted_whole_or_fails_whole(
    api: CheckedApi, upstream: Upstream
) -> None:
    rich, poor = await rich_and_poor(api)
    keys = [uuid4().hex for _ in range(3)]
    items = [
        {**transfer(rich, poor, amount), "idempotency_key": key}
        for key, amount in zip(keys, ["10.00", "95.00", "1.00"], strict=True)
    ]
    message = {"version": 1, "mode": "atomic", "transactions": items}
    await upstream.publish(message, routing_key=rich)

    codes = [(await ended(api, key))["failure"]["code"] for key in keys]
    assert codes == ["batch_failed", "insufficient_funds", "batch_failed"]
    assert await api.balance(rich) == "100.00"


async def test_an_amount_that_does_not_fit_its_hold_is_a_dead_letter(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    rich, _ = await rich_and_poor(api)
    hold = (await api.submit(_hold(rich, "60.00"))).json
    key = uuid4().hex
    capture = {"type": "capture", "hold_id": hold["id"], "amount": "1.001"}
    await upstream.publish(requested(capture, key=key), routing_key=rich)

    async def look() -> Any:
        return await dead_letters(doors.database_url, key.encode())

    [letter] = await eventually(look, what="its dead letter")
    assert letter["reason"] == "invalid_message"
    assert "decimals" in letter["detail"]
