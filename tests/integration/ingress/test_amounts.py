"""Amounts over the wire: exact to the currency's decimals, or refused."""

from decimal import Decimal
from uuid import uuid4

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.support import Answer, deposit, transfer, withdrawal


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
        ("EUR", '"92233720368547758.07"', "92233720368547758.07"),
        ("ISK", "9223372036854775807", "9223372036854775807"),
    ],
)
async def test_an_exact_amount_is_kept_to_its_last_digit(
    api: CheckedApi, currency: str, amount: str, kept: str
) -> None:
    wallet = await api.create_wallet(currency)
    answer = await _deposit_of(api, wallet, amount, currency)
    # Out again: the outside wallet of a currency must not fill up.
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


async def test_a_balance_never_leaves_64_bits(api: CheckedApi) -> None:
    full, other = await api.create_wallet("CHF"), await api.create_wallet("CHF")
    await api.deposit(full, "92233720368547758.07", "CHF")
    more = await api.deposit(full, "0.01", "CHF")
    await api.submit(transfer(full, other, "92233720368547758.07", "CHF"))
    await api.submit(withdrawal(other, "92233720368547758.07", "CHF"))

    assert (more.json["status"], more.json["failure"]["code"]) == ("FAILED", "limit_exceeded")


async def test_the_largest_overdraft_leaves_its_wallet_usable(api: CheckedApi) -> None:
    """What is available stays a number that the database can hold, or the limit is refused."""
    answer = await api.call(
        "POST", "/v1/wallets", json={"currency": "SEK", "overdraft_limit": "92233720368547758.07"}
    )
    if answer.status == 422:
        return
    paid = await api.submit(deposit(answer.json["id"], "1.00", "SEK"), wait=5)

    assert paid.json["status"] in {"COMPLETED", "FAILED"}


async def test_an_overdraft_may_be_raised_to_any_number_that_is_accepted(api: CheckedApi) -> None:
    wallet = await api.create_wallet("NOK")
    await api.deposit(wallet, "1.00", "NOK")
    answer = await api.call(
        "PATCH", f"/v1/wallets/{wallet}", json={"overdraft_limit": "92233720368547758.07"}
    )

    assert answer.status in {200, 422}
