"""Every type of transaction while a processor is away, is killed, or meets what it cannot write."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runtime.postgres.pool import connect
from runtime.service.fault_points import Fault, FaultPoint
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import ended
from tests.integration.processor.proven import amounts_of, proven_doors, rich_and_poor
from tests.support import eventually, requested, transfer
from tools.stack import Stack


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where faults are ordered."""
    return tmp_path_factory.mktemp("orders")


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, orders: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system for this module alone, whose books are clean after all that it went through."""
    directory: Path = tmp_path_factory.mktemp("system")
    settings = {"ACKLEDGER_FAULT_ORDERS": str(orders)}
    async with proven_doors(stack, template, directory, settings=settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(doors: CheckedDoors) -> CheckedApi:
    """The HTTP door."""
    return doors.api


def _hold(source: str, destination: str, amount: str, expires_in_s: int = 60) -> dict[str, Any]:
    return {
        "type": "hold",
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": amount,
        "currency": "USD",
        "expires_in_s": expires_in_s,
    }


async def _code(api: CheckedApi, key: str) -> str:
    """Return the status that a transaction ended in, or why it FAILED."""
    found = await ended(api, key, within_s=30.0)
    return str(found["failure"]["code"] if found["failure"] else found["status"])


async def test_a_hold_expires_while_no_processor_runs(doors: CheckedDoors, api: CheckedApi) -> None:
    rich, poor = await rich_and_poor(api)
    hold = (await api.submit(_hold(rich, poor, "60.00", expires_in_s=1))).json
    late, spent = uuid4().hex, uuid4().hex
    await asyncio.to_thread(doors.system.halt, "processor")
    try:
        await api.submit({"type": "capture", "hold_id": hold["id"]}, key=late, wait=None)
        await api.submit(transfer(rich, poor, "100.00"), key=spent, wait=None)

        async def is_free() -> bool:
            return await amounts_of(api, rich) == ("100.00", "0.00", "100.00")

        await eventually(is_free, what="what was held")
    finally:
        await asyncio.to_thread(doors.system.restart, "processor")

    assert [await _code(api, key) for key in (late, spent)] == ["hold_expired", "COMPLETED"]


@pytest.mark.parametrize(
    "point", [FaultPoint.PROCESSOR_BEFORE_COMMIT, FaultPoint.PROCESSOR_COMMITTED]
)
async def test_a_processor_killed_in_a_batch_of_every_type_posts_it_once(
    doors: CheckedDoors, api: CheckedApi, orders: Path, point: FaultPoint
) -> None:
    rich, poor = await rich_and_poor(api)
    hold = (await api.submit(_hold(rich, poor, "10.00"))).json["id"]
    other = (await api.submit(_hold(rich, poor, "20.00"))).json["id"]
    moved = (await api.submit(transfer(rich, poor, "5.00"))).json["id"]
    legs = [
        {"wallet_id": rich, "amount": "-3.00", "currency": "USD"},
        {"wallet_id": poor, "amount": "3.00", "currency": "USD"},
    ]
    bodies: list[dict[str, Any]] = [
        {"type": "capture", "hold_id": hold, "amount": "4.00", "final": False},
        {"type": "release", "hold_id": other},
        {"type": "reversal", "reverses": moved, "amount": "2.00"},
        {"type": "journal", "legs": legs},
        _hold(rich, poor, "7.00"),
        transfer(rich, poor, "1.00"),
    ]
    keys = [uuid4().hex for _ in bodies]
    items = [{**body, "idempotency_key": key} for body, key in zip(bodies, keys, strict=True)]
    order = orders / point.value
    order.write_text(Fault.KILL)
    await doors.upstream.publish({"version": 1, "transactions": items}, routing_key=rich)

    async def is_struck() -> bool:
        return not order.exists()

    await eventually(is_struck, what="the fault")
    await asyncio.to_thread(doors.system.restart, "processor")

    assert [await _code(api, key) for key in keys] == ["COMPLETED"] * len(keys)
    assert await amounts_of(api, rich) == ("89.00", "13.00", "76.00")
    assert await api.balance(poor) == "11.00"


_REFUSE = """
CREATE FUNCTION refuse_marked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'COMPLETED' AND NEW.description = 'cannot be written' THEN
        RAISE EXCEPTION 'nobody foresaw this';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refuse_marked BEFORE UPDATE ON transactions
FOR EACH ROW EXECUTE FUNCTION refuse_marked();
"""
_NO_MORE = "DROP TRIGGER refuse_marked ON transactions; DROP FUNCTION refuse_marked();"


@pytest.mark.parametrize("door", ["http", "amqp"])
@pytest.mark.parametrize("act", ["replay", "discard"])
async def test_an_atomic_batch_is_set_aside_and_ended_by_an_operator_as_a_whole(
    doors: CheckedDoors, api: CheckedApi, door: str, act: str
) -> None:
    rich, poor = await rich_and_poor(api)
    keys = [uuid4().hex for _ in range(4)]
    items = [{**transfer(rich, poor, "1.00"), "idempotency_key": key} for key in keys]
    items[2]["description"] = "cannot be written"
    neighbour = uuid4().hex
    connection = await connect(doors.database_url, name="test")
    await connection.execute(_REFUSE)
    try:
        if door == "http":
            body = {"mode": "atomic", "transactions": items}
            answer = await api.call("POST", "/v1/transactions/batch", json=body)
            assert answer.status == 202, answer.body
        else:
            message = {"version": 1, "mode": "atomic", "transactions": items}
            await doors.upstream.publish(message, routing_key=rich)
        await doors.upstream.publish(
            requested(transfer(rich, poor, "5.00"), key=neighbour), routing_key=rich
        )
        assert await _code(api, neighbour) == "COMPLETED"
        assert [await _code(api, key) for key in keys] == ["QUARANTINED"] * 4
    finally:
        await connection.execute(_NO_MORE)
        await connection.close()
    members = [(await ended(api, key))["id"] for key in keys]

    async def letters() -> list[dict[str, Any]]:
        found = (await api.get("/v1/dead-letters", state="open", reason="quarantined")).json
        return [one for one in found["items"] if one["transaction_id"] in members]

    letter, *more = await eventually(letters, what="the dead letter")
    assert more == []
    acted = await api.call("POST", f"/v1/dead-letters/{letter['id']}/{act}")
    assert acted.status == 200, acted.body
    assert sorted(acted.json["transaction_ids"]) == sorted(members)

    async def are_final() -> list[str] | None:
        codes = [await _code(api, key) for key in keys]
        return None if "QUARANTINED" in codes else codes

    codes = await eventually(are_final, what="the end of all members")
    if act == "replay":
        assert codes == ["COMPLETED"] * 4
        assert await api.balance(poor) == "9.00"
    else:
        assert sorted(codes) == ["batch_failed"] * 3 + ["discarded"]
        assert await api.balance(poor) == "5.00"
