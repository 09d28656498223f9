"""What a row of somebody's file becomes."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest

from cli.replay.doors import encoded
from cli.replay.mapping import (
    Account,
    ColumnMapping,
    Draft,
    Field,
    Record,
    RowError,
    RowType,
    draft_of,
)
from cli.replay.options import PRESETS
from cli.replay.wallets import wallet_key

WALLET = "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"
OTHER = "0199a1f2-7a90-72c8-8001-c84e10d7f0aa"
BANK_ROW = {
    "trans_id": "695247",
    "account_id": "2378",
    "date": "1993-01-01",
    "type": "PRIJEM",
    "operation": "VKLAD",
    "amount": "700.00",
    "balance": "700.00",
    "k_symbol": "",
    "bank": "",
    "account": "",
}


def draft(mapping: ColumnMapping | None = None, **values: Any) -> Draft:
    row = {
        "idempotency_key": "k-1",
        "type": "deposit",
        "amount": "10.00",
        "currency": "USD",
        "destination_wallet_id": WALLET,
        **values,
    }
    return draft_of(Record(7, row), mapping or ColumnMapping())


def refusal(mapping: ColumnMapping | None = None, **values: Any) -> str:
    with pytest.raises(RowError) as caught:
        draft(mapping, **values)
    return str(caught.value)


def test_columns_of_the_fields_names_need_no_mapping() -> None:
    assert draft().request({Account(WALLET, "USD"): WALLET}) == {
        "idempotency_key": "k-1",
        "type": "deposit",
        "amount": "10.00",
        "currency": "USD",
        "destination_wallet_id": WALLET,
    }


@pytest.mark.parametrize(
    ("word", "side"),
    [
        ("PRIJEM", "destination_wallet_id"),
        ("VYDAJ", "source_wallet_id"),
        ("VYBER", "source_wallet_id"),
    ],
)
def test_a_credit_of_the_bank_is_a_deposit_and_a_debit_a_withdrawal(word: str, side: str) -> None:
    made = draft_of(Record(2, {**BANK_ROW, "type": word}), PRESETS["berka"])

    assert made.counted_with == ("2378", "CZK")
    assert made.request({Account("2378", "CZK"): WALLET}) == {
        "idempotency_key": "berka-695247",
        "type": "deposit" if side.startswith("destination") else "withdrawal",
        "amount": "700.00",
        "currency": "CZK",
        "description": "VKLAD",
        side: WALLET,
    }


def test_a_transfer_is_ordered_by_the_wallet_that_is_debited() -> None:
    made = draft(type="transfer", source_wallet_id=OTHER)

    assert made.accounts == (Account(OTHER, "USD"), Account(WALLET, "USD"))
    assert made.counted_with == (OTHER, "USD")


def test_the_wallet_column_is_the_source_of_a_transfer_that_names_none() -> None:
    made = draft(type="transfer", wallet=OTHER)

    assert made.accounts == (Account(OTHER, "USD"), Account(WALLET, "USD"))


def test_an_account_is_no_wallet_id_unless_wallets_are_made() -> None:
    assert "destination_wallet_id" in refusal(destination_wallet_id="account 12")
    assert draft(
        ColumnMapping(makes_wallets=True), destination_wallet_id="account 12"
    ).accounts == (("account 12", "USD"),)


@pytest.mark.parametrize("amount", [Decimal("10.50"), "10.50", " 10.50 "])
def test_numbers_and_text_are_the_same_amount(amount: object) -> None:
    assert draft(amount=amount).body["amount"] == "10.50"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"amount": "0"}, "more than zero"),
        ({"amount": "-5.00"}, "decimal point"),
        ({"amount": "1.005"}, "3 decimals, USD has 2"),
        ({"amount": "1,000.00"}, "decimal point"),
        ({"amount": ""}, "no amount in 'amount'"),
        ({"amount": "1.000"}, "the amount '1.000' has 3 decimals, USD has 2"),
        ({"amount": "25.0", "currency": "JPY"}, "1 decimals, JPY has 0"),
        ({"amount": Decimal("1e400")}, "no text and no number"),
        ({"amount": True}, "no text and no number"),
        ({"amount": "9" * 19}, "64 bits"),
        ({"amount": "10000000000000.01"}, "at most 10000000000000.00 USD"),
        ({"currency": ""}, "no currency in 'currency', and no --currency"),
        ({"currency": "XXQ"}, "ISO 4217"),
        ({"idempotency_key": " "}, "no idempotency key"),
        ({"idempotency_key": "schlüssel"}, "ASCII"),
        ({"idempotency_key": "k" * 256}, "255"),
        ({"type": "PRIJEM"}, "--type-map PRIJEM=deposit"),
        ({"type": None}, "no type"),
        ({"destination_wallet_id": ""}, "must be set for a deposit"),
        ({"source_wallet_id": OTHER}, "must not be set for a deposit"),
        ({"wallet": OTHER}, "'destination_wallet_id' and 'wallet' name two different wallets"),
        ({"description": "x" * 501}, "500 characters"),
        ({"description": ["x"]}, "no text"),
        ({"metadata": "{not json"}, "not JSON"),
        ({"metadata": "[1]"}, "/metadata"),
        ({"metadata": {"a": "x" * 5000}}, "4096 bytes"),
        ({"metadata": '{"a":' * 17 + "1" + "}" * 17}, "16 levels"),
        ({"metadata": '{"a":' * 254 + "1" + "}" * 254}, "32 levels"),
        ({"metadata": '{"a": 1, "a": 2}'}, "stands twice"),
        ({"metadata": '{"a": 0.1000000000000000055}'}, "send it as a text"),
    ],
)
def test_a_row_that_the_service_would_refuse_is_refused_with_its_reason(
    values: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(**values)


def test_an_account_s_name_is_text_that_can_be_stored() -> None:
    mapping = ColumnMapping(makes_wallets=True)

    assert "255" in refusal(mapping, destination_wallet_id="a" * 256)
    assert "UTF-8" in refusal(mapping, destination_wallet_id="caf\udce9")


def test_metadata_are_an_object_or_its_json() -> None:
    assert sent(metadata={"n": Decimal("1.5")})["metadata"] == {"n": 1.5}
    assert sent(metadata='{"b": 2, "a": 1}')["metadata"] == {"a": 1, "b": 2}
    assert "metadata" not in sent(metadata="")


def test_metadata_however_deep_are_sent_or_refused_with_a_reason() -> None:
    deep: Any = 1
    for _ in range(254):
        deep = {"a": deep}
    outcome: Any
    try:
        outcome = sent(metadata=deep)["metadata"]
    except RowError as error:
        outcome = str(error)

    assert outcome == deep or "/metadata" in outcome


def sent(**values: Any) -> Any:
    return orjson.loads(encoded(draft(**values).request({Account(WALLET, "USD"): WALLET})))


def test_a_json_number_has_no_grouping_point_and_may_end_in_noughts() -> None:
    assert draft(amount=Decimal("25.0"), currency="JPY").body["amount"] == "25.0"


def test_one_wallet_is_one_name_however_its_id_is_spelled() -> None:
    spellings = (WALLET.upper(), WALLET.replace("-", ""), f"urn:uuid:{WALLET}")

    assert {draft(destination_wallet_id=text).accounts for text in spellings} == {
        ((WALLET, "USD"),)
    }


def test_a_constant_currency_serves_rows_that_name_none() -> None:
    mapping = ColumnMapping(columns={Field.CURRENCY: "ccy"}, currency="EUR")

    assert draft(mapping).counted_with.currency == "EUR"
    assert draft(mapping, ccy="JPY", amount="10").counted_with.currency == "JPY"


def test_the_file_s_words_for_types_win_over_ours() -> None:
    mapping = ColumnMapping(types={"deposit": RowType.WITHDRAWAL})

    made = draft(mapping, destination_wallet_id=None, source_wallet_id=WALLET)

    assert made.body["type"] == "withdrawal"
    assert draft(type="Deposit").body["type"] == "deposit"


def test_another_prefix_is_another_key_of_transaction_and_wallet() -> None:
    assert draft(ColumnMapping(key_prefix="run2-")).body["idempotency_key"] == "run2-k-1"
    assert wallet_key("7", "CZK", key_prefix="run2-") != wallet_key("7", "CZK", key_prefix="")


@pytest.mark.parametrize("account", ["7", "Müller & Söhne", "a b", "x" * 255, "ü" * 255])
def test_an_account_s_key_is_always_valid_and_its_own(account: str) -> None:
    key = wallet_key(account, "CZK", key_prefix="berka-")

    assert len(key) <= 255
    assert all("!" <= character <= "~" for character in key)
    assert key != wallet_key(account[:-1], "CZK", key_prefix="berka-")
    assert key != wallet_key(account, "EUR", key_prefix="berka-")


def test_what_maps_is_a_request_that_the_service_accepts() -> None:
    made = draft(source_wallet_id=None).request({Account(WALLET, "USD"): WALLET})

    assert UUID(made["destination_wallet_id"]) == UUID(WALLET)


LEGS: list[dict[str, Any]] = [
    {"wallet_id": WALLET, "amount": "3.00", "currency": "USD"},
    {"wallet_id": OTHER, "amount": Decimal("-2.75"), "currency": "USD"},
    {"external": True, "amount": "-0.25", "currency": "USD"},
]
JOURNAL: dict[str, Any] = {
    "type": "journal",
    "amount": None,
    "currency": None,
    "destination_wallet_id": None,
}


def test_a_hold_is_a_row_like_a_transfer() -> None:
    made = draft(type="hold", source_wallet_id=OTHER, expires_in_s=60)

    assert made.counted_with == (OTHER, "USD")
    assert made.request({Account(OTHER, "USD"): OTHER, Account(WALLET, "USD"): WALLET}) == {
        "idempotency_key": "k-1",
        "type": "hold",
        "amount": "10.00",
        "currency": "USD",
        "source_wallet_id": OTHER,
        "destination_wallet_id": WALLET,
        "expires_in_s": 60,
    }


def test_a_journal_s_legs_are_written_as_the_service_takes_them() -> None:
    made = draft(**JOURNAL, legs=LEGS)

    assert made.counted_with == (OTHER, "USD")
    assert made.request({one: one.name for one in made.accounts}) == {
        "idempotency_key": "k-1",
        "type": "journal",
        "legs": [
            {"wallet_id": WALLET, "amount": "3.00", "currency": "USD"},
            {"wallet_id": OTHER, "amount": "-2.75", "currency": "USD"},
            {"external": True, "amount": "-0.25", "currency": "USD"},
        ],
    }


def test_legs_name_accounts_of_their_currencies_and_may_stand_in_a_cell_as_json() -> None:
    legs = """[{"wallet_id": "alice", "amount": -1, "currency": "USD"},
        {"wallet_id": "shop", "amount": 1, "currency": "USD"},
        {"wallet_id": "shop", "amount": "-149", "currency": "JPY"},
        {"wallet_id": "alice", "amount": "149", "currency": "JPY"}]"""
    made = draft(ColumnMapping(makes_wallets=True), **JOURNAL, legs=legs)

    assert made.accounts == (
        Account("alice", "USD"),
        Account("shop", "USD"),
        Account("shop", "JPY"),
        Account("alice", "JPY"),
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({**JOURNAL}, "no list of legs in 'legs'"),
        ({**JOURNAL, "legs": [1, 2]}, "no list of legs in 'legs'"),
        ({**JOURNAL, "legs": "[{"}, "the legs are not JSON"),
        ({**JOURNAL, "legs": LEGS[:2]}, "the amounts in USD sum to 0.25, not to zero"),
        ({**JOURNAL, "legs": [LEGS[0], {"amount": "-3.00", "currency": "USD"}]}, "neither"),
        ({**JOURNAL, "legs": [{**LEGS[0], "colour": 1}, LEGS[1]]}, "/legs/0/colour: Extra inputs"),
        ({**JOURNAL, "legs": [{**LEGS[0], "amount": "3.000"}, *LEGS[1:]]}, "has 3 decimals"),
        ({**JOURNAL, "legs": LEGS, "amount": "1.00"}, "'amount' must not be set for a journal"),
        ({"legs": LEGS}, "must not be set for a deposit"),
        ({"expires_in_s": "60"}, "must not be set for a deposit"),
        ({"type": "capture"}, "'capture' is no type"),
        ({"execute_at": "2026-12-01T00:00:00Z"}, "'execute_at' is for requests"),
        ({"conditions": []}, "'conditions' is for requests"),
    ],
)
def test_what_a_row_cannot_ask_for_makes_it_a_bad_row(values: dict[str, Any], reason: str) -> None:
    assert reason in refusal(**values)
