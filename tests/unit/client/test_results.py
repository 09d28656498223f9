"""What the service answers is read with its types, and a later release's words are no fault."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from ackledger.client import Transaction, TransactionEvent, TransactionStatus, Wallet
from contracts.representations import examples


def test_money_ids_and_moments_have_their_types() -> None:
    transaction = Transaction.model_validate(examples.TRANSACTION)

    assert transaction.amount == Decimal(examples.TRANSACTION["amount"])
    assert transaction.id == UUID(examples.TRANSACTION["id"])
    assert transaction.created_at.astimezone(UTC) < datetime.now(UTC)
    assert transaction.status is TransactionStatus.COMPLETED
    assert isinstance(Wallet.model_validate(examples.WALLET).available, Decimal)


@pytest.mark.parametrize(
    ("model", "told", "changes"),
    [
        (Transaction, examples.TRANSACTION, {"status": "PAUSED"}),
        (Transaction, examples.TRANSACTION, {"type": "swap", "channel": "grpc"}),
        (Transaction, examples.TRANSACTION, {"failure": {"code": "too_late", "detail": None}}),
        (Transaction, examples.TRANSACTION, {"a_field_of_its_own": 1}),
        (TransactionEvent, examples.TRANSACTION_EVENT, {"event_type": "transaction.paused"}),
        (Wallet, examples.WALLET, {"kind": "pooled", "status": "ASLEEP"}),
    ],
)
def test_what_a_later_release_adds_is_read_as_it_came(
    model: Any, told: dict[str, Any], changes: dict[str, Any]
) -> None:
    read = model.model_validate({**told, **changes}).model_dump(mode="json")

    assert {name: read[name] for name in changes if name in read} == {
        name: value for name, value in changes.items() if name in model.model_fields
    }
