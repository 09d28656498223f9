"""An asset is registered while everything runs, and every process takes it at the same moment."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli.clients.addresses import Addresses
from contracts.topology import EVENTS_EXCHANGE
from runtime.postgres.pool import connect
from tests.end_to_end.replay.conftest import replay_file
from tests.integration.command_line.calling import ackledger
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.processor.correspondents import listening
from tests.support import deposit, eventually, requested, transfer, withdrawal
from tools.stack import Stack
from tools.system import Instance, Role
from verification.verify import verify

pytestmark = pytest.mark.long

_INSTANCES = (
    Instance(role=Role.INGRESS, name="ingress-1"),
    Instance(role=Role.INGRESS, name="ingress-2"),
    Instance(role=Role.PROCESSOR),
    Instance(role=Role.RECONCILER),
)


@pytest.fixture(scope="module")
async def system(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    directory = tmp_path_factory.mktemp("system")
    async with open_doors(stack, template, directory, instances=_INSTANCES) as doors:
        yield doors


async def _register(system: CheckedDoors, directory: Path, code: str, exponent: int) -> datetime:
    """Register an asset by the command; return from when on requests may name it."""
    called = await ackledger(
        *("assets", "add", code, "--exponent", str(exponent), "--json"),
        directory=directory / ".local",
        variables={"DATABASE_URL": system.database_url},
    )
    assert called.code == 0, called.err
    return datetime.fromisoformat(called.json["usable_from"])


async def _take(system: CheckedDoors, moment: datetime) -> None:
    """Wait for a moment of the database's clock."""
    connection = await connect(system.database_url, name="test")

    async def has_come() -> bool:
        return bool(await connection.fetchval("SELECT clock_timestamp() >= $1", moment))

    await eventually(has_come, what="the moment from which on requests may name it")
    await connection.close()


async def _clean(system: CheckedDoors) -> bool:
    connection = await connect(system.database_url, name="test")
    try:
        return (await verify(connection, pending_max_s=60)).clean
    finally:
        await connection.close()


async def test_points_with_eight_decimals_move_through_both_doors(
    system: CheckedDoors, tmp_path: Path
) -> None:
    before = await system.api.call("POST", "/v1/wallets", json={"currency": "POINTS8"})
    moment = await _register(system, tmp_path, "POINTS8", 8)
    await _take(system, moment)
    alice, bob = [await system.api.create_wallet("POINTS8") for _ in range(2)]

    async with listening(system.amqp_url, exchange=EVENTS_EXCHANGE) as listener:
        paid_in = await system.api.submit(deposit(alice, "0.00000001", "POINTS8"))
        event = await _event_of(listener, paid_in.json["id"])
    moved = [
        await system.api.submit(deposit(alice, "9999999.99999999", "POINTS8")),
        await system.api.submit(transfer(alice, bob, "1234567.5", "POINTS8")),
    ]
    await system.upstream.publish(requested(withdrawal(bob, "0.00000001", "POINTS8")))

    async def is_paid_out() -> bool:
        return await system.api.balance(bob) == "1234567.49999999"

    await eventually(is_paid_out, what="upstream's withdrawal")
    history = (await system.api.get(f"/v1/wallets/{alice}/entries")).json["items"]
    too_fine = await system.api.submit(deposit(alice, "0.000000001", "POINTS8"))

    assert before.status == 422
    assert [one.json["status"] for one in [paid_in, *moved]] == ["COMPLETED"] * 3
    assert event["amount"] == "0.00000001"
    assert [one["balance_after"] for one in event["entries"]] == ["-0.00000001", "0.00000001"]
    assert {k: event[k] for k in paid_in.json} == paid_in.json
    assert [one["amount"] for one in history] == [
        "-1234567.50000000",
        "9999999.99999999",
        "0.00000001",
    ]
    assert await system.api.balance(alice) == "8765432.50000000"
    assert too_fine.json["errors"] == [
        {"pointer": "/amount", "detail": "POINTS8 has 8 decimals, the amount has more"}
    ]
    assert await _clean(system)


async def test_every_ingress_takes_it_from_the_promised_moment_on(
    system: CheckedDoors, tmp_path: Path
) -> None:
    moment = await _register(system, tmp_path, "MILES", 0)
    early = await system.api.call("POST", "/v1/wallets", json={"currency": "MILES"})
    await _take(system, moment)
    taken: list[Any] = []
    for url in system.system.http_urls.values():
        async with CheckedApi(url, system.system.api_key) as api:
            wallet = await api.create_wallet("MILES")
            taken.append(await api.deposit(wallet, "7", "MILES"))
            listed = {one["code"]: one for one in (await api.get("/v1/assets")).json["items"]}
            assert listed["MILES"]["source"] == "registered"

    assert (early.status, early.json["errors"][0]["pointer"]) == (422, "/currency")
    assert len(taken) == 2
    assert [one.json["amount"] for one in taken] == ["7", "7"]


async def test_a_process_that_starts_later_knows_what_was_registered_before(
    system: CheckedDoors, tmp_path: Path
) -> None:
    await _take(system, await _register(system, tmp_path, "WEI12", 12))
    wallet = await system.api.create_wallet("WEI12")
    for name in ("ingress-1", "processor"):
        await asyncio.to_thread(system.system.restart, name)

    answer = await system.api.submit(deposit(wallet, "0.000000000001", "WEI12"))
    await system.upstream.publish(requested(withdrawal(wallet, "0.000000000001", "WEI12")))

    async def is_empty() -> bool:
        return await system.api.balance(wallet) == "0.000000000000"

    assert answer.json["amount"] == "0.000000000001"
    assert await eventually(is_empty, what="upstream's withdrawal")


async def test_a_file_may_name_a_registered_asset(system: CheckedDoors, tmp_path: Path) -> None:
    await _take(system, await _register(system, tmp_path, "STARS8", 8))
    rows = [
        {"idempotency_key": f"star-{n}", "type": kind, "amount": "0.00000002", "wallet": "alice"}
        for n, kind in enumerate(["deposit", "withdrawal"])
    ]
    file = tmp_path / "stars.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    addresses = Addresses(system.system.http_url, system.system.api_key, system.upstream.url)

    async def replay(currency: str, via: str) -> tuple[int, str, str]:
        options = ["--via", via, "--wallets", "create", "--currency", currency, "--wait"]
        return await replay_file(str(file), *options, "--json", addresses=addresses)

    code, out, err = await replay("STARS8", "http")
    again, _, _ = await replay("STARS8", "amqp")
    unknown, _, why = await replay("STARS9", "http")

    assert code == 0, err
    assert json.loads(out)["completed"] == 2
    assert (again, unknown) == (0, 2)
    assert "--currency: 'STARS9' is not an ISO 4217 currency code or a registered asset" in why


async def _event_of(listener: Any, transaction_id: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = orjson.loads((await listener.next()).body)
        if event["id"] == transaction_id:
            return event
