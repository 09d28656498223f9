"""Assets over the wire: listed, and those that left ISO 4217 readable and no longer filled."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from contracts.identifiers import external_wallet_id
from contracts.money import ISO_4217_EDITION, Money
from contracts.requests.transaction import TransactionCommand
from contracts.scopes import Scope
from ledger.words import TransactionType
from runtime.postgres.pool import Connection, connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.integration.processor.books import record
from tests.support import deposit, eventually, requested, transfer, withdrawal

_LEFT = "'BGN' left ISO 4217 in 2026: only withdrawals from the wallets that hold it are accepted"


@pytest.fixture
async def database(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """The system's books."""
    connection = await connect(doors.database_url, name="test")
    yield connection
    await connection.close()


@pytest.fixture
async def old_wallet(database: Connection, api: CheckedApi) -> str:
    """A wallet with 10.00 BGN of the time when it was a currency."""
    external = external_wallet_id("BGN")
    await database.execute(
        "INSERT INTO wallets (id, currency, kind) VALUES ($1, 'BGN', 'external') "
        "ON CONFLICT DO NOTHING",
        external,
    )
    wallet: UUID = await database.fetchval(
        "INSERT INTO wallets (id, currency) VALUES (uuid_v7(clock_us()), 'BGN') RETURNING id"
    )
    command = TransactionCommand(
        idempotency_key=uuid4().hex,
        fingerprint=b"of its time",
        type=TransactionType.DEPOSIT,
        source_wallet_id=None,
        destination_wallet_id=wallet,
        money=Money(1000, "BGN"),
        description=None,
        metadata=b"{}",
    )
    await record(database, [command])

    async def is_posted() -> bool:
        return await api.balance(str(wallet)) == "10.00"

    await eventually(is_posted, what="what was accepted before is posted")
    return str(wallet)


async def test_the_list_has_iso_4217_with_its_edition_and_what_left_it(api: CheckedApi) -> None:
    answer = await api.get("/v1/assets")
    items = {one["code"]: one for one in answer.json["items"]}

    assert answer.status == 200
    assert answer.json["edition"] == ISO_4217_EDITION
    assert list(items) == sorted(items)
    assert items["KWD"] == {
        "code": "KWD",
        "exponent": 3,
        "source": "iso4217",
        "status": "active",
        "withdrawn_in": None,
    }
    assert (items["HRK"]["status"], items["HRK"]["withdrawn_in"]) == ("withdrawn", 2023)
    assert "XXX" not in items


async def test_a_current_copy_is_not_sent_again(api: CheckedApi) -> None:
    first = await api.get("/v1/assets")
    headers = {"If-None-Match": first.headers["ETag"]}
    again = await api.call("GET", "/v1/assets", headers=headers)
    other = await api.call("GET", "/v1/assets", headers={"If-None-Match": '"another"'})

    assert first.headers["Cache-Control"] == "private, no-cache"
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert (other.status, other.json) == (200, first.json)


async def test_the_list_needs_the_scope_to_read_wallets(make_client: MakeClient) -> None:
    allowed = await make_client(scopes=[Scope.WALLETS_READ])
    other = await make_client(scopes=[Scope.TRANSACTIONS_WRITE])

    assert (await allowed.get("/v1/assets")).status == 200
    assert (await other.get("/v1/assets")).code == "insufficient_scope"


async def test_money_of_a_withdrawn_currency_can_only_leave(
    api: CheckedApi, old_wallet: str
) -> None:
    history = (await api.get(f"/v1/wallets/{old_wallet}/entries")).json["items"]
    refused = [
        await api.submit(deposit(old_wallet, "1.00", "BGN")),
        await api.submit(transfer(old_wallet, str(uuid4()), "1.00", "BGN")),
    ]
    out = await api.submit(withdrawal(old_wallet, "10.00", "BGN"))

    assert [one["amount"] for one in history] == ["10.00"]
    for answer in refused:
        assert (answer.status, answer.code) == (422, "validation_failed")
        assert answer.json["errors"] == [{"pointer": "/currency", "detail": _LEFT}]
    assert out.json["status"] == "COMPLETED"
    assert await api.balance(old_wallet) == "0.00"


async def test_a_withdrawn_currency_s_wallet_is_listed_limited_and_closed(
    api: CheckedApi, old_wallet: str
) -> None:
    path = f"/v1/wallets/{old_wallet}"
    listed = await api.get("/v1/wallets", currency="BGN")
    limited = await api.call("PATCH", path, json={"overdraft_limit": "0.00"})
    await api.submit(withdrawal(old_wallet, "10.00", "BGN"))
    closed = await api.call("PATCH", path, json={"status": "CLOSED"})

    assert old_wallet in [one["id"] for one in listed.json["items"]]
    assert limited.json["available"] == "10.00"
    assert closed.json["status"] == "CLOSED"


async def test_no_wallet_is_made_in_a_withdrawn_currency(api: CheckedApi) -> None:
    answer = await api.call("POST", "/v1/wallets", json={"currency": "BGN"})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert answer.json["errors"] == [{"pointer": "/currency", "detail": _LEFT}]


async def test_upstream_s_deposit_in_a_withdrawn_currency_is_a_dead_letter(
    doors: CheckedDoors, database: Connection, old_wallet: str
) -> None:
    await doors.upstream.publish(requested(deposit(old_wallet, "1.00", "BGN")))
    paid_out = requested(withdrawal(old_wallet, "4.00", "BGN"))
    await doors.upstream.publish(paid_out)

    async def detail() -> str | None:
        found: str | None = await database.fetchval(
            "SELECT detail FROM dead_letters WHERE reason = 'invalid_message' AND detail LIKE $1",
            f"%{_LEFT}%",
        )
        return found

    async def is_paid() -> bool:
        return await doors.api.balance(old_wallet) == "6.00"

    assert await eventually(detail, what="the deposit's dead letter")
    assert await eventually(is_paid, what="the withdrawal")


@pytest.mark.parametrize("currency", ["XXQ", "POINTS99", "XXX"])
async def test_a_code_that_nobody_registered_is_refused(
    api: CheckedApi, wallet: str, currency: str
) -> None:
    answers = [
        await api.call("POST", "/v1/wallets", json={"currency": currency}),
        await api.submit(deposit(wallet, "1", currency)),
    ]

    for answer in answers:
        [error] = answer.json["errors"]
        assert (answer.status, error["pointer"]) == (422, "/currency")
        assert error["detail"] == (
            f"'{currency}' is not an ISO 4217 currency code or a registered asset"
        )
