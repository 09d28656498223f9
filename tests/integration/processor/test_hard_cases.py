"""Hard cases of holds, reversals, journals and atomic batches: races, limits, refusals."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from cli.assets import add_asset
from contracts.topology import EVENTS_EXCHANGE
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import ended, listening
from tests.integration.processor.proven import amounts_of, proven_doors, rich_and_poor
from tests.support import Upstream, deposit, eventually, requested, transfer, withdrawal
from tools.stack import Stack

ROUNDS = 12
"""Of a race: a few of each way that it may end."""


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system of four partitions, whose books are clean after all of these cases."""
    directory: Path = tmp_path_factory.mktemp("system")
    async with proven_doors(stack, template, directory, partitions=4) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(doors: CheckedDoors) -> CheckedApi:
    """The HTTP door."""
    return doors.api


@pytest.fixture(scope="module")
def upstream(doors: CheckedDoors) -> Upstream:
    """The AMQP door, for the same submitter."""
    return doors.upstream


def _hold(source: str, amount: str, currency: str = "USD", **fields: Any) -> dict[str, Any]:
    return {
        "type": "hold",
        "source_wallet_id": source,
        "amount": amount,
        "currency": currency,
        **fields,
    }


def _capture(hold: str, **fields: Any) -> dict[str, Any]:
    return {"type": "capture", "hold_id": hold, **fields}


def _release(hold: str) -> dict[str, Any]:
    return {"type": "release", "hold_id": hold}


def _reversal(transaction: str, **fields: Any) -> dict[str, Any]:
    return {"type": "reversal", "reverses": transaction, **fields}


def _journal(*legs: tuple[str, str, str]) -> dict[str, Any]:
    names = ("wallet_id", "amount", "currency")
    return {"type": "journal", "legs": [dict(zip(names, leg, strict=True)) for leg in legs]}


async def _completed(api: CheckedApi, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.submit(body)
    assert answer.status == 200, answer.body
    assert answer.json["status"] == "COMPLETED", answer.json["failure"]
    found: dict[str, Any] = answer.json
    return found


async def _failure(api: CheckedApi, body: dict[str, Any]) -> str:
    """Return why a transaction FAILED."""
    answer = await api.submit(body)
    assert answer.status == 200, answer.body
    assert answer.json["status"] == "FAILED", answer.json
    return str(answer.json["failure"]["code"])


async def _over_amqp(
    api: CheckedApi, upstream: Upstream, body: dict[str, Any], routing_key: str
) -> dict[str, Any]:
    key = uuid4().hex
    await upstream.publish(requested(body, key=key), routing_key=routing_key)
    return await ended(api, key)


async def test_capture_release_and_expiry_race_over_two_doors(
    api: CheckedApi, upstream: Upstream
) -> None:
    rich, poor = await rich_and_poor(api)

    async def race(number: int) -> tuple[str, str, str]:
        """Return the hold, and what capture and release came to around its last instant."""
        body = _hold(rich, "1.00", destination_wallet_id=poor, expires_in_s=1)
        hold = await _completed(api, body)
        expires_at = datetime.fromisoformat(hold["hold"]["expires_at"])
        begin = expires_at + timedelta(milliseconds=50 * (number - ROUNDS))

        async def is_time() -> bool:
            return datetime.now(UTC) >= begin

        await eventually(is_time, what="the instant")
        capture, release = await asyncio.gather(
            api.submit(_capture(hold["id"])), _over_amqp(api, upstream, _release(hold["id"]), rich)
        )
        ends = [capture.json, release]
        codes = [one["failure"]["code"] if one["failure"] else one["status"] for one in ends]
        return hold["id"], codes[0], codes[1]

    races = await asyncio.gather(*[race(number) for number in range(ROUNDS)])

    allowed = {
        ("COMPLETED", "hold_closed"): "CAPTURED",
        ("hold_closed", "COMPLETED"): "RELEASED",
        ("hold_expired", "hold_expired"): "EXPIRED",
    }
    shown = [(await api.get(f"/v1/transactions/{hold}")).json["hold"] for hold, *_ in races]
    assert [one["status"] for one in shown] == [allowed[codes[0], codes[1]] for _, *codes in races]
    captured = [capture for _, capture, _ in races].count("COMPLETED")
    assert await amounts_of(api, poor) == (f"{captured}.00", "0.00", f"{captured}.00")
    left = f"{100 - captured}.00"
    assert await amounts_of(api, rich) == (left, "0.00", left)


async def test_reversals_that_race_never_reverse_more_than_there_is(
    api: CheckedApi, upstream: Upstream
) -> None:
    rich, poor = await rich_and_poor(api)
    for _ in range(4):
        moved = await _completed(api, transfer(rich, poor, "10.00"))
        part = _reversal(moved["id"], amount="6.00")
        over_http, over_amqp = await asyncio.gather(
            api.submit(part), _over_amqp(api, upstream, part, poor)
        )
        ends = [over_http.json, over_amqp]
        assert sorted(one["status"] for one in ends) == ["COMPLETED", "FAILED"]
        [refused] = [one["failure"]["code"] for one in ends if one["failure"]]
        assert refused == "amount_exceeds_reversible"

        wholes = await asyncio.gather(*[api.submit(_reversal(moved["id"])) for _ in range(3)])
        codes = [one.json["failure"] and one.json["failure"]["code"] for one in wholes]
        assert sorted(codes, key=str) == [None, "already_reversed", "already_reversed"]
        read = (await api.get(f"/v1/transactions/{moved['id']}")).json
        assert (read["status"], read["reversed_amount"]) == ("REVERSED", "10.00")
        assert len(read["reversals"]) == 2
    assert await amounts_of(api, rich) == ("100.00", "0.00", "100.00")


async def test_a_reversal_races_a_freeze(api: CheckedApi) -> None:
    rich, poor = await rich_and_poor(api)
    back = 0
    for _ in range(6):
        moved = await _completed(api, transfer(rich, poor, "1.00"))
        frozen, reversal = await asyncio.gather(
            api.call("PATCH", f"/v1/wallets/{poor}", json={"status": "FROZEN"}),
            api.submit(_reversal(moved["id"])),
        )
        assert frozen.status == 200
        if reversal.json["failure"]:
            assert reversal.json["failure"]["code"] == "wallet_frozen"
        else:
            back += 1
        assert await _failure(api, transfer(poor, rich, "1.00")) == "wallet_frozen"
        await api.call("PATCH", f"/v1/wallets/{poor}", json={"status": "ACTIVE"})
    assert await api.balance(poor) == f"{6 - back}.00"


async def test_a_frozen_wallet_frees_what_it_holds_and_nothing_else(api: CheckedApi) -> None:
    rich, poor = await rich_and_poor(api)
    hold = (await _completed(api, _hold(rich, "5.00", destination_wallet_id=poor)))["id"]
    other = (await _completed(api, _hold(rich, "6.00", expires_in_s=1)))["id"]
    await api.call("PATCH", f"/v1/wallets/{rich}", json={"status": "FROZEN"})

    assert await _failure(api, _hold(rich, "1.00")) == "wallet_frozen"
    assert await _failure(api, _capture(hold)) == "wallet_frozen"
    await _completed(api, _release(hold))

    async def has_expired() -> bool:
        answer = (await api.get(f"/v1/transactions/{other}")).json
        return bool(answer["hold"]["status"] == "EXPIRED")

    await eventually(has_expired, what="the other hold's end")
    assert await amounts_of(api, rich) == ("100.00", "0.00", "100.00")


async def test_a_wallet_that_holds_money_is_neither_closed_nor_deleted(api: CheckedApi) -> None:
    wallet = await api.create_wallet(overdraft_limit="10.00")
    hold = (await _completed(api, _hold(wallet, "10.00")))["id"]
    assert await amounts_of(api, wallet) == ("0.00", "10.00", "0.00")
    assert await _failure(api, _hold(wallet, "0.01")) == "insufficient_funds"

    closed = await api.call("PATCH", f"/v1/wallets/{wallet}", json={"status": "CLOSED"})
    deleted = await api.call("DELETE", f"/v1/wallets/{wallet}")
    lowered = await api.call("PATCH", f"/v1/wallets/{wallet}", json={"overdraft_limit": "9.99"})
    assert (closed.status, closed.code) == (409, "wallet_not_empty")
    assert (deleted.status, deleted.code) == (409, "wallet_not_empty")
    assert (lowered.status, lowered.code) == (409, "overdraft_in_use")

    await _completed(api, _capture(hold, amount="4.00"))
    assert await amounts_of(api, wallet) == ("-4.00", "0.00", "6.00")


@pytest.mark.parametrize("door", ["http", "amqp"])
async def test_a_thousand_fail_with_the_last_one(
    api: CheckedApi, upstream: Upstream, door: str
) -> None:
    rich, poor = await rich_and_poor(api)
    amounts = ["0.01"] * 999 + ["90.02"]
    items = [{**transfer(rich, poor, one), "idempotency_key": uuid4().hex} for one in amounts]
    if door == "http":
        body = {"mode": "atomic", "transactions": items}
        answer = await api.call("POST", "/v1/transactions/batch", json=body)
        assert answer.status == 202, answer.body
        assert {one["status_code"] for one in answer.json["items"]} == {202}
    else:
        message = {"version": 1, "mode": "atomic", "transactions": items}
        await upstream.publish(message, routing_key=rich)

    last = await ended(api, items[-1]["idempotency_key"])
    places = (0, 500, 998)
    others = [await ended(api, items[place]["idempotency_key"]) for place in places]
    assert last["failure"]["code"] == "insufficient_funds"
    assert [one["failure"]["code"] for one in others] == ["batch_failed"] * 3
    assert {one["batch_id"] for one in others} == {last["batch_id"]}
    assert await amounts_of(api, rich) == ("100.00", "0.00", "100.00")
    history = (await api.get(f"/v1/wallets/{rich}/entries")).json["items"]
    assert len(history) == 1


async def test_a_condition_sees_the_version_that_its_own_batch_left(api: CheckedApi) -> None:
    rich, poor = await rich_and_poor(api)

    async def batch(*versions: int) -> list[dict[str, Any]]:
        items = [
            {
                **transfer(rich, poor, "1.00"),
                "idempotency_key": uuid4().hex,
                "conditions": [{"wallet_id": rich, "version": version}],
            }
            for version in versions
        ]
        body = {"mode": "atomic", "transactions": items}
        await api.call("POST", "/v1/transactions/batch", json=body)
        return [await ended(api, one["idempotency_key"]) for one in items]

    stale = await batch(1, 1)
    assert [one["failure"]["code"] for one in stale] == ["batch_failed", "condition_failed"]
    assert [one["status"] for one in await batch(1, 2, 3)] == ["COMPLETED"] * 3
    assert await api.balance(rich) == "97.00"


async def test_currencies_never_mix(api: CheckedApi) -> None:
    rich, _ = await rich_and_poor(api)
    yen = await api.create_wallet("JPY")
    hold = (await _completed(api, _hold(rich, "5.00")))["id"]

    codes = [
        await _failure(api, transfer(rich, yen, "1.00")),
        await _failure(api, deposit(yen, "1.00")),
        await _failure(api, _hold(yen, "1.00")),
        await _failure(api, _hold(rich, "1", "JPY")),
        await _failure(api, _capture(hold, destination_wallet_id=yen)),
        await _failure(api, _journal((rich, "-1.00", "USD"), (yen, "1.00", "USD"))),
    ]
    assert codes == ["currency_mismatch"] * 6
    fine = await api.submit(_capture(hold, amount="1.001"))
    assert (fine.status, fine.code) == (422, "validation_failed")
    assert await amounts_of(api, rich) == ("100.00", "5.00", "95.00")


async def test_each_type_is_replayed_under_its_key(api: CheckedApi) -> None:
    rich, poor = await rich_and_poor(api)
    hold = (await _completed(api, _hold(rich, "50.00", destination_wallet_id=poor)))["id"]
    other = (await _completed(api, _hold(rich, "1.00")))["id"]
    moved = (await _completed(api, transfer(rich, poor, "5.00")))["id"]
    bodies = [
        _hold(rich, "2.00"),
        _capture(hold, amount="3.00", final=False),
        _release(other),
        _reversal(moved, amount="2.00"),
        _journal((rich, "-1.00", "USD"), (poor, "1.00", "USD")),
        withdrawal(poor, "0.50"),
    ]
    keys = [uuid4().hex for _ in bodies]
    first = [await api.submit(body, key=key) for body, key in zip(bodies, keys, strict=True)]
    balances = [await amounts_of(api, one) for one in (rich, poor)]
    again = [await api.submit(body, key=key) for body, key in zip(bodies, keys, strict=True)]
    changed = [
        await api.submit({**body, "description": "another"}, key=key)
        for body, key in zip(bodies, keys, strict=True)
    ]

    assert [one.json["status"] for one in first] == ["COMPLETED"] * len(bodies)
    assert [one.status for one in again] == [200] * len(bodies)
    assert [one.json for one in again] == [one.json for one in first]
    assert {one.headers["Idempotency-Replayed"] for one in again} == {"true"}
    assert [one.code for one in changed] == ["idempotency_key_reused"] * len(bodies)
    assert [await amounts_of(api, one) for one in (rich, poor)] == balances


async def test_events_of_a_hold_come_in_its_order(api: CheckedApi, doors: CheckedDoors) -> None:
    rich, poor = await rich_and_poor(api)
    async with listening(doors.amqp_url, exchange=EVENTS_EXCHANGE, binding="#.USD") as listener:
        hold = (await _completed(api, _hold(rich, "9.00", destination_wallet_id=poor)))["id"]
        capture = (await _completed(api, _capture(hold, amount="4.00", final=False)))["id"]
        release = (await _completed(api, _release(hold)))["id"]
        reversal = (await _completed(api, _reversal(capture)))["id"]
        short = (await _completed(api, _hold(rich, "9.00", expires_in_s=1)))["id"]
        told: list[tuple[str, str, str]] = []
        while not told or told[-1][0] != "transaction.hold_expired":
            event = orjson.loads((await listener.next()).body)
            held = {one["wallet_id"]: one["held"] for one in event["wallets"]}
            if rich in held and event["type"] != "deposit":
                told.append((event["event_type"], event["id"], held[rich]))

    assert told == [
        ("transaction.completed", hold, "9.00"),
        ("transaction.completed", capture, "5.00"),
        ("transaction.completed", release, "0.00"),
        ("transaction.completed", reversal, "0.00"),
        ("transaction.reversed", capture, "0.00"),
        ("transaction.completed", short, "9.00"),
        ("transaction.hold_expired", short, "0.00"),
    ]


async def test_null_and_unknown_fields_are_refused(api: CheckedApi) -> None:
    rich, poor = await rich_and_poor(api)
    nothing = str(uuid4())
    bodies = [
        {**_hold(rich, "1.00"), "source_wallet_id": None},
        {**_hold(rich, "1.00"), "amount": None},
        _hold(rich, "1.00", expires_in_s=0),
        _hold(rich, "1.00", expires_in_s=True),
        _hold(rich, "1.00", hold_id=nothing),
        {"type": "capture", "hold_id": None},
        _capture(nothing, currency="USD"),
        _capture(nothing, final="yes"),
        _capture(nothing, amount="0"),
        {"type": "release"},
        {**_release(nothing), "amount": "1.00"},
        {"type": "reversal", "reverses": None},
        _reversal(nothing, amount="-1"),
        _journal((rich, "-1.00", "USD")),
        _journal((rich, "-1.00", "USD"), (poor, "1.01", "USD")),
        _journal((rich, "0.00", "USD"), (poor, "0", "USD")),
        _journal(*[(rich, "-1.00", "USD"), (poor, "1.00", "USD")] * 50, (rich, "1", "USD")),
        {**_journal((rich, "-1.00", "USD"), (poor, "1.00", "USD")), "amount": "1.00"},
        {"type": "journal", "legs": None},
        {**transfer(rich, poor, "1.00"), "conditions": []},
        {**transfer(rich, poor, "1.00"), "conditions": [{"wallet_id": rich}]},
        {**transfer(rich, poor, "1.00"), "conditions": [{"wallet_id": rich, "version": -1}]},
        {**transfer(rich, poor, "1.00"), "valid_until": "tomorrow"},
    ]
    answers = [await api.submit(body) for body in bodies]
    wrong = [
        body
        for body, answer in zip(bodies, answers, strict=True)
        if (answer.status, answer.json.get("code")) != (422, "validation_failed")
    ]
    assert wrong == []


async def test_twelve_decimals_are_held_captured_and_split_to_the_last_one(
    api: CheckedApi, doors: CheckedDoors
) -> None:
    connection = await connect(doors.database_url, name="test")
    asset, _ = await add_asset(connection, "WEI12", 12, actor="test")

    async def is_usable() -> bool:
        moment = await connection.fetchval("SELECT clock_timestamp()")
        return bool(moment >= asset.usable_from)

    await eventually(is_usable, what="the asset")
    await connection.close()
    rich, poor = [await api.create_wallet("WEI12") for _ in range(2)]
    await _completed(api, deposit(rich, "1000", "WEI12"))
    beyond = await api.submit(deposit(rich, "1000.000000000001", "WEI12"))
    assert (beyond.status, beyond.code) == (422, "validation_failed")
    hold = await _completed(api, _hold(rich, "0.000000000003", "WEI12", destination_wallet_id=poor))
    part = _capture(hold["id"], amount="0.000000000001", final=False)
    capture = await _completed(api, part)
    assert (await api.submit(_capture(hold["id"], amount="1e-13"))).status == 422
    await _completed(api, _journal((rich, "-999.5", "WEI12"), (poor, "999.5", "WEI12")))
    await _completed(api, _reversal(capture["id"]))

    assert await amounts_of(api, rich) == ("0.500000000000", "0.000000000002", "0.499999999998")
    assert await amounts_of(api, poor) == ("999.500000000000", "0.000000000000", "999.500000000000")
