"""Transactions as the client writes them are those that the contract reads."""

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest

from ackledger.client import (
    Capture,
    Condition,
    Deposit,
    Hold,
    Journal,
    Leg,
    Release,
    Reversal,
    TransactionRequest,
    Transfer,
    Withdrawal,
)
from ackledger.client.requests import REQUESTS
from contracts.json import decode_json
from contracts.requests.terms import FITS
from contracts.requests.terms import TransactionRequest as ContractRequest
from contracts.requests.transaction import command_of
from ledger.words import TransactionType

_A = UUID("0199a1f2-6c1e-7d40-8001-5f2d9c7be311")
_B = UUID("0199a1f2-7a90-72c8-8001-c84e10d7f0aa")
_NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
_EXAMPLES: list[TransactionRequest] = [
    Deposit(destination_wallet_id=_A, amount=Decimal("1E+1"), currency="USD"),
    Withdrawal(source_wallet_id=str(_A), amount=10, currency="JPY", description="ü"),
    Transfer(
        source_wallet_id=_A,
        destination_wallet_id=_B,
        amount="0.01",
        currency="EUR",
        metadata={"order": 4711, "nested": {"a": [1, None, True]}},
        valid_until=_NOON,
        conditions=[Condition(wallet_id=_A, version=3, available_at_least=Decimal("-1.50"))],
    ),
    Journal(
        legs=(
            Leg(external=True, amount=Decimal("-3.00"), currency="EUR"),
            Leg(wallet_id=_A, amount="3.00", currency="EUR"),
        ),
        execute_at=_NOON,
    ),
    Hold(source_wallet_id=_A, amount="1", currency="USD", expires_in_s=60),
    Capture(hold_id=_A, amount="0.50", final=False),
    Release(hold_id=_A),
    Reversal(reverses=_A, amount="0.50", force=True),
]


@pytest.mark.parametrize("request_", _EXAMPLES, ids=lambda one: one.type.value)
def test_the_contract_reads_what_the_client_writes(request_: TransactionRequest) -> None:
    command = command_of(decode_json(orjson.dumps(request_.body())))

    assert command.type is request_.type
    assert command.idempotency_key == request_.idempotency_key


def test_no_digit_of_an_amount_is_lost() -> None:
    body = Deposit(
        destination_wallet_id=_A, amount=Decimal("12345678901234567.12345678"), currency="POINTS8"
    ).body()

    assert body["amount"] == "12345678901234567.12345678"


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_type_has_exactly_the_fields_that_the_contract_lets_it_have(
    kind: type[TransactionRequest],
) -> None:
    fit = FITS[kind.type]
    of_all = {"description", "metadata", "valid_until", "execute_at", "conditions"}

    assert {one.name for one in fields(kind)} == fit.must | fit.may | of_all | {"idempotency_key"}
    assert of_all <= ContractRequest.model_fields.keys()


def test_there_is_a_class_for_every_type() -> None:
    assert {one.type for one in REQUESTS} == set(TransactionType)


def test_every_request_has_a_key_of_its_own_and_keeps_it() -> None:
    first, second = Release(hold_id=_A), Release(hold_id=_A)

    assert first.body() == first.body()
    assert first.idempotency_key != second.idempotency_key


@pytest.mark.parametrize(
    ("fields_", "error"),
    [
        ({"amount": 1.5}, TypeError),
        ({"amount": Decimal("NaN")}, ValueError),
        ({"amount": "1", "valid_until": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001
        ({"amount": "1", "conditions": [{"wallet_id": _A}]}, None),
    ],
)
def test_what_would_lose_its_value_on_the_way_is_refused_at_once(
    fields_: dict[str, Any], error: type[Exception] | None
) -> None:
    def make() -> Deposit:
        return Deposit(destination_wallet_id=_A, currency="USD", **fields_)

    if error is None:
        make()
        return
    with pytest.raises(error):
        make()


@pytest.mark.parametrize(
    ("request_", "wallet"),
    [
        (Deposit(destination_wallet_id=_B, amount="1", currency="USD"), _B),
        (Withdrawal(source_wallet_id=_A, amount="1", currency="USD"), _A),
        (Hold(source_wallet_id=_A, amount="1", currency="USD"), _A),
        (
            Journal(
                legs=[
                    Leg(wallet_id=_B, amount="1", currency="USD"),
                    Leg(wallet_id=_A, amount="-1", currency="USD"),
                ]
            ),
            _A,
        ),
        (Capture(hold_id=_A), None),
    ],
)
def test_a_request_knows_the_wallet_whose_order_it_keeps(
    request_: TransactionRequest, wallet: UUID | None
) -> None:
    assert request_.ordered_by == wallet
