"""Amounts over the wire: exact to the currency's decimals, or refused."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from ledger.words import MINOR_MAX
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import Answer, deposit, withdrawal


async def _deposit_of(api: CheckedApi, wallet: str, amount: str, currency: str = "USD") -> Answer:
    """Deposit an amount that is JSON text, as the client wrote it."""
    text = (
        f'{{"type":"deposit","destination_wallet_id":"{wallet}","amount":{amount},'
        f'"currency":"{currency}"}}'
    )
    headers = {"Idempotency-Key": uuid4().hex, "Prefer": "wait=20"}
    return await api.call("POST", "/v1/transactions", data=text.encode(), headers=headers)


@pytest.mark.parametrize(
    "amount",
    [
        "0", '"0"', '"0.00"', "0.0", "0e400", "-0.0", "-1", '"-1"', "-0.01", '"+1"', '" 1"', '"1 "',
        '"1,00"', '"1_000"', '"1e2"', '"0x10"', '""', '"."', '".5"', '"1."', '"1.005"', "1.005",
        "0.001", "1e-400", '"1e400"', "1e400", "1e999999", '"NaN"', '"Infinity"', '"-Infinity"',
        '"92233720368547758.08"', "92233720368547758.08", "9223372036854775808", "1e17",
        '"10000000000000.01"', "10000000000000.01", "1e13000", "10000000000001",
        f'"{"9" * 40}"', f'"{"9" * 4000}"', "9" * 4000, "1." + "0" * 60 + "1", "null", "true",
        "[1]", '{"value":1}', '"\u0661"', '"1\\n"', '"1\\u0000"',
    ],
    ids=lambda amount: amount[:24],
)  # fmt: skip
async def test_an_amount_that_is_not_exact_and_positive_is_refused(
    api: CheckedApi, wallet: str, amount: str
) -> None:
    answer = await _deposit_of(api, wallet, amount)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/amount"]


@pytest.mark.parametrize(
    ("currency", "amount", "kept"),
    [
        ("USD", '"10.10"', "10.10"),
        ("USD", "10.10", "10.10"),
        ("USD", "25", "25.00"),
        ("USD", '"25"', "25.00"),
        ("USD", '"007.50"', "7.50"),
        ("USD", "0.1", "0.10"),
        ("USD", "1e2", "100.00"),
        ("USD", "1.5E+1", "15.00"),
        ("USD", "2.50000000000000000000000000000000", "2.50"),
        ("JPY", '"1000"', "1000"),
        ("JPY", "1000.0", "1000"),
        ("KWD", '"1.234"', "1.234"),
        ("KWD", "0.001", "0.001"),
        ("CLF", "0.0001", "0.0001"),
        ("EUR", '"10000000000000.00"', "10000000000000.00"),
        ("ISK", "1000000000000000", "1000000000000000"),
        ("KWD", "1e12", "1000000000000.000"),
        ("CLF", '"100000000000"', "100000000000.0000"),
    ],
)
async def test_an_exact_amount_is_kept_to_its_last_digit(
    api: CheckedApi, currency: str, amount: str, kept: str
) -> None:
    wallet = await api.create_wallet(currency)
    answer = await _deposit_of(api, wallet, amount, currency)
    await api.submit(withdrawal(wallet, kept, currency))

    assert (answer.status, answer.json["status"]) == (200, "COMPLETED")
    assert answer.json["amount"] == kept
    assert [entry["balance_after"] for entry in answer.json["entries"]][1] == kept
    assert await api.balance(wallet) == format(Decimal(kept) * 0, "f")


@pytest.mark.parametrize(("currency", "amount"), [("JPY", '"1.5"'), ("KWD", '"1.2345"')])
async def test_each_currency_has_its_own_decimals(
    api: CheckedApi, wallet: str, currency: str, amount: str
) -> None:
    answer = await _deposit_of(api, wallet, amount, currency)

    assert answer.status == 422
    assert [error["pointer"] for error in answer.json["errors"]] == ["/amount"]


async def test_a_balance_never_leaves_64_bits(doors: CheckedDoors, api: CheckedApi) -> None:
    full = await api.create_wallet("CHF")
    connection = await connect(doors.database_url, name="test")
    await connection.execute("UPDATE wallets SET balance = $2 WHERE id = $1", UUID(full), MINOR_MAX)
    await connection.close()
    more = await api.deposit(full, "0.01", "CHF")

    assert (more.json["status"], more.json["failure"]["code"]) == ("FAILED", "limit_exceeded")


async def test_the_largest_deposits_do_not_use_up_their_currency(api: CheckedApi) -> None:
    wallet = await api.create_wallet("SEK")
    largest = [await api.deposit(wallet, "10000000000000.00", "SEK") for _ in range(3)]
    after = await api.deposit(await api.create_wallet("SEK"), "1.00", "SEK")

    assert [one.json["status"] for one in [*largest, after]] == ["COMPLETED"] * 4


async def test_the_largest_overdraft_leaves_its_wallet_usable(api: CheckedApi) -> None:
    wallet = await api.create_wallet("NOK", overdraft_limit="10000000000000.00")
    paid = [
        await api.submit(withdrawal(wallet, "10000000000000.00", "NOK")),
        await api.submit(deposit(wallet, "1.00", "NOK")),
    ]

    assert [one.json["status"] for one in paid] == ["COMPLETED"] * 2


async def test_an_overdraft_has_the_bound_of_an_amount(api: CheckedApi, wallet: str) -> None:
    beyond = {"overdraft_limit": "10000000000000.01"}
    created = await api.call("POST", "/v1/wallets", json={"currency": "USD", **beyond})
    changed = await api.call("PATCH", f"/v1/wallets/{wallet}", json=beyond)

    for answer in (created, changed):
        assert (answer.status, answer.code) == (422, "validation_failed")
        assert [error["pointer"] for error in answer.json["errors"]] == ["/overdraft_limit"]
