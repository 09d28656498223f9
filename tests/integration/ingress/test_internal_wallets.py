"""Internal wallets: the house's own, whose overdraft has no limit."""

import asyncio
import hashlib
from uuid import uuid4

import pytest

from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import Answer, eventually, requested, transfer, withdrawal
from verification.verify import verify


async def _read(api: CheckedApi, wallet: str) -> dict[str, object]:
    read: dict[str, object] = (await api.get(f"/v1/wallets/{wallet}")).json
    return read


async def test_a_wallet_is_a_customer_s_unless_it_says_otherwise(api: CheckedApi) -> None:
    plain = await _read(api, await api.create_wallet())
    customer = await _read(api, await api.create_wallet(kind="customer"))
    internal = await _read(api, await api.create_wallet(kind="internal", owner_id="fees"))

    assert [one["kind"] for one in (plain, customer, internal)] == [
        "customer",
        "customer",
        "internal",
    ]
    assert (internal["overdraft_limit"], internal["available"]) == ("0.00", "0.00")


async def test_an_internal_wallet_pays_what_it_has_not(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    house, alice = await api.create_wallet(kind="internal"), await api.create_wallet()
    paid = [
        await api.submit(transfer(house, alice, "100.00")),
        await api.submit(withdrawal(house, "50.00")),
        await api.submit(transfer(alice, house, "30.00")),
    ]
    beyond = await api.submit(transfer(alice, house, "70.01"))
    read = await _read(api, house)

    assert {one.json["status"] for one in paid} == {"COMPLETED"}
    assert beyond.json["failure"]["code"] == "insufficient_funds"
    assert (read["balance"], read["available"], read["version"]) == ("-120.00", "-120.00", 3)
    connection = await connect(doors.database_url, name="test")
    report = await verify(connection, pending_max_s=300)
    await connection.close()
    # Other modules' tests have written into some wallets of this database by hand.
    assert f"wallet {house}" not in {one.subject for one in report.findings}


async def test_an_internal_wallet_pays_over_amqp_too(doors: CheckedDoors, api: CheckedApi) -> None:
    house, alice = await api.create_wallet(kind="internal"), await api.create_wallet()
    await doors.upstream.publish(requested(transfer(house, alice, "7.00")), routing_key=house)

    async def is_paid() -> bool:
        return await api.balance(alice) == "7.00"

    await eventually(is_paid, what="the transfer")
    assert await api.balance(house) == "-7.00"


async def test_an_internal_wallet_freezes_and_closes_like_any_other(api: CheckedApi) -> None:
    house, alice = await api.create_wallet(kind="internal"), await api.create_wallet()
    await api.submit(transfer(house, alice, "5.00"))

    async def change(**fields: object) -> Answer:
        return await api.call("PATCH", f"/v1/wallets/{house}", json=fields)

    frozen = await change(status="FROZEN")
    refused = await api.submit(transfer(house, alice, "1.00"))
    thawed = await change(status="ACTIVE", metadata={"a": 1})
    early = await change(status="CLOSED")
    await api.submit(transfer(alice, house, "5.00"))
    closed = await change(status="CLOSED")

    assert (frozen.status, frozen.json["balance"]) == (200, "-5.00")
    assert refused.json["failure"]["code"] == "wallet_frozen"
    assert (thawed.status, thawed.json["metadata"]) == (200, {"a": 1})
    assert (early.status, early.code) == (409, "wallet_not_empty")
    assert (closed.status, closed.json["kind"]) == (200, "internal")


async def test_an_internal_wallet_takes_no_overdraft_limit(api: CheckedApi) -> None:
    house = await api.create_wallet(kind="internal")
    answer = await api.call("PATCH", f"/v1/wallets/{house}", json={"overdraft_limit": "1"})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert answer.json["errors"] == [
        {"pointer": "/overdraft_limit", "detail": "must not be set for an internal wallet"}
    ]


async def test_lists_show_both_kinds_or_the_one_that_is_asked_for(api: CheckedApi) -> None:
    owner = uuid4().hex
    customer = await api.create_wallet("HUF", owner_id=owner)
    internal = await api.create_wallet("HUF", owner_id=owner, kind="internal")
    await api.deposit(customer, "1.00", "HUF")

    async def found(**filters: str) -> list[str]:
        page = await api.get("/v1/wallets", currency="HUF", **filters)
        return [one["id"] for one in page.json["items"]]

    for filters in ({}, {"owner_id": owner}):
        assert await found(**filters) == [customer, internal]
        assert await found(kind="customer", **filters) == [customer]
        assert await found(kind="internal", **filters) == [internal]


@pytest.mark.parametrize("first", ["customer", "internal"])
async def test_a_key_stands_for_one_kind(api: CheckedApi, first: str) -> None:
    headers = {"Idempotency-Key": uuid4().hex}

    async def create(**fields: str) -> Answer:
        body = {"currency": "USD", **fields}
        return await api.call("POST", "/v1/wallets", json=body, headers=headers)

    made = await create(kind=first)
    again = await create(kind=first)
    other = await create(kind="internal" if first == "customer" else "customer")
    unnamed = await create()

    assert [made.status, again.status, other.status] == [201, 200, 422]
    assert other.code == "idempotency_key_reused"
    assert unnamed.status == (200 if first == "customer" else 422)


async def test_a_key_from_before_there_were_kinds_finds_its_wallet(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    connection = await connect(doors.database_url, name="test")
    await connection.execute(
        "INSERT INTO wallet_requests (submitter, idempotency_key, fingerprint, wallet_id) "
        "VALUES ('demo', $1, $2, $3)",
        key,
        hashlib.sha256(b'["USD",null,0,"{}"]').digest(),
        wallet,
    )
    await connection.close()
    answer = await api.call(
        "POST", "/v1/wallets", json={"currency": "USD"}, headers={"Idempotency-Key": key}
    )

    assert (answer.status, answer.json["id"]) == (200, wallet)


async def test_many_pay_from_one_internal_wallet_at_once(api: CheckedApi) -> None:
    house = await api.create_wallet(kind="internal")
    others = [await api.create_wallet() for _ in range(10)]
    paid = await asyncio.gather(*(api.submit(transfer(house, one, "1.00")) for one in others * 3))

    assert {one.json["status"] for one in paid} == {"COMPLETED"}
    assert await api.balance(house) == "-30.00"
