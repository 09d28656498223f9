"""Views of transactions that are not posted: what is not there is null."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import pytest

from contracts.identifiers import external_wallet_id
from contracts.representations.transaction import render_transaction

_WALLET: Final = UUID("0199a1f2-6c1e-7d40-8001-5f2d9c7be311")
# What the ingress knows of a transaction that it has just recorded.
_RECORDED: Final[dict[str, Any]] = {
    "id": UUID("019aa3b0-41d2-7e14-8001-9b7f02c4d6e8"),
    "idempotency_key": "order-1",
    "submitter": "shop",
    "channel": "http",
    "type": "deposit",
    "source_wallet_id": None,
    "destination_wallet_id": _WALLET,
    "amount": 100,
    "currency": "USD",
    "status": "PENDING",
    "failure_code": None,
    "description": None,
    "metadata": None,
    "reverses": None,
    "reversed_by": None,
    "has_terms": None,
    "reversals": None,
    "reversed_amount": None,
    "source_sequence": None,
    "created_at": datetime(2026, 11, 21, tzinfo=UTC),
    "completed_at": None,
}


@pytest.mark.parametrize("source", [None, external_wallet_id("USD")])
def test_a_leg_outside_is_null_whether_it_is_filled_in_or_not(source: UUID | None) -> None:
    view = render_transaction({**_RECORDED, "source_wallet_id": source})

    assert (view["source_wallet_id"], view["destination_wallet_id"]) == (None, str(_WALLET))
    assert (view["entries"], view["failure"], view["completed_at"]) == ([], None, None)
