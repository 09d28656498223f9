"""Events written out as text are the documents that a reader of the transaction gets."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from contracts.identifiers import external_wallet_id
from contracts.representations.event import event_body, render_event
from contracts.representations.transaction import render_transaction
from ledger.state import WalletState
from ledger.words import PLAIN_TYPES

_MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_TEXT = st.text(max_size=30)
_METADATA = st.dictionaries(_TEXT, _TEXT | st.integers(-(2**53), 2**53) | st.booleans(), max_size=3)
_BALANCES = st.integers(-(2**60), 2**60)
_POSTED = {"COMPLETED": True, "REVERSED": True, "FAILED": False, "QUARANTINED": False}


@st.composite
def _rows(draw: st.DrawFn) -> dict[str, Any]:
    """Return a row as the database's view has it, in any of the states that events tell of."""
    currency = draw(st.sampled_from(["USD", "JPY", "KWD"]))
    status = draw(st.sampled_from(list(_POSTED)))
    is_posted = _POSTED[status]
    wallets = st.uuids() | st.just(external_wallet_id(currency))
    source, destination = draw(st.tuples(wallets, wallets).filter(lambda two: two[0] != two[1]))
    metadata = draw(st.none() | _METADATA)
    reverses = draw(st.none() | st.uuids())
    reversals = draw(st.none() | st.lists(st.uuids(), min_size=1, max_size=2))
    entries = {
        "source_sequence": draw(st.integers(1, 2**40)),
        "source_balance_after": draw(_BALANCES),
        "destination_sequence": draw(st.integers(1, 2**40)),
        "destination_balance_after": draw(_BALANCES),
    }
    return {
        "id": draw(st.uuids()),
        "idempotency_key": draw(st.text(st.characters(min_codepoint=33, max_codepoint=126))),
        "submitter": draw(_TEXT),
        "channel": draw(st.sampled_from(["http", "amqp"])),
        "type": "reversal" if reverses else draw(st.sampled_from(sorted(PLAIN_TYPES))),
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "amount": draw(st.integers(1, 2**60)),
        "currency": currency,
        "status": status,
        "failure_code": "insufficient_funds" if status == "FAILED" else None,
        "failure_detail": draw(st.none() | _TEXT) if status == "FAILED" else None,
        "description": draw(st.none() | _TEXT),
        "metadata": None
        if metadata is None
        else orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS).decode(),
        "reverses": reverses,
        "reversed_by": draw(st.none() | st.sampled_from(reversals)) if reversals else None,
        "has_terms": None,
        "reversals": reversals,
        "reversed_amount": draw(st.integers(1, 2**60)) if reversals else None,
        **{name: value if is_posted else None for name, value in entries.items()},
        "created_at": draw(_MOMENTS),
        "completed_at": draw(_MOMENTS) if is_posted else draw(st.none() | _MOMENTS),
        "request_id": None,
        "traceparent": None,
    }


@given(_rows(), st.uuids(), st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)))
def test_a_body_is_the_document_as_json(
    row: dict[str, Any], event_id: UUID, limits: tuple[int, int]
) -> None:
    names = {
        "event_id": str(event_id),
        "event_type": "transaction.reversed",
        "occurred_at": "2026-11-21T12:00:00.000000Z",
    }
    limited = {str(row["source_wallet_id"]): limits}

    body = event_body(row, wallets=None, limits=limited, **names)

    assert body == orjson.dumps(
        render_event(render_transaction(row), wallets=_wallets_after(row, limited), **names)
    )


def _wallets_after(row: dict[str, Any], limits: Mapping[str, tuple[int, int]]) -> list[WalletState]:
    """Return what follows from the entries of a row that is posted, and no part of a reversal."""
    if row["source_sequence"] is None or row["reverses"] or row["reversals"]:
        return []
    states = []
    for side in ("source", "destination"):
        wallet_id, balance = row[f"{side}_wallet_id"], row[f"{side}_balance_after"]
        if wallet_id != external_wallet_id(row["currency"]):
            held, limit = limits.get(str(wallet_id), (0, 0))
            available = balance - held + limit
            version = row[f"{side}_sequence"]
            states.append(
                WalletState(wallet_id, version, balance, held, available, row["currency"])
            )
    return states
