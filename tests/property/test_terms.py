"""Whatever a request of any type holds, it is refused with its pointers, or can be recorded."""

import random
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from contracts.json import decode_json
from contracts.money import AMOUNT_MINOR_MAX
from contracts.problems import ContractError
from contracts.record import RecordedRow, Submission, recording_arguments
from contracts.representations.transaction import new_view
from contracts.requests.references import resolved
from contracts.requests.transaction import TransactionCommand, command_of
from ledger.words import TransactionType

_IDS: Final = [f"0199a1f2-6c1e-7d40-8001-5f2d9c7be3{number:02}" for number in range(4)]
_HOLD: Final = {
    "type": "hold",
    "source_wallet_id": UUID(_IDS[0]),
    "destination_wallet_id": None,
    "currency": "KWD",
}
_NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)
_ODD: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [None, True, 0, -1, 2**70, "", "x", "٣", "1e2", [], {}, [{}], {"a": 1}, "-", "\ud800"]
)
_AMOUNTS: Final = st.one_of(
    st.integers(-2, 10**16).map(lambda minor: f"{minor / 100:.2f}"),
    st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{1,14})?", fullmatch=True),
    st.integers(-(10**20), 10**20),
    st.sampled_from(["10000000000000.00", "10000000000000.01", "-0", "0.0", "1" + "0" * 39]),
)
_MOMENTS: Final = st.one_of(
    st.datetimes(datetime(1960, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat),  # noqa: DTZ001
    st.sampled_from(["2026-12-01T00:00:00Z", "2026-12-01t01:00:00.123456789-05:30", "never"]),
)
_CURRENCIES: Final = st.sampled_from(["USD", "USD", "JPY", "KWD", "XXX"])
_WALLETS: Final = st.sampled_from(_IDS)


@st.composite
def _legs(draw: st.DrawFn) -> list[Any]:
    """Mostly legs that sum to zero."""
    minors = draw(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=6))
    legs: list[Any] = [
        {"amount": f"{Decimal(minor).scaleb(-2):f}", "currency": "USD"}
        for minor in [*minors, -sum(minors)]
    ]
    sides = [{"external": True}, *({"wallet_id": one} for one in _IDS)]
    for leg in legs:
        leg.update(draw(st.sampled_from(sides)))
    if draw(st.integers(0, 4)) == 0:
        draw(st.sampled_from(legs))[draw(st.sampled_from(["amount", "note"]))] = draw(_ODD)
    return legs


_FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "type": st.sampled_from(list(TransactionType)),
    "source_wallet_id": _WALLETS,
    "destination_wallet_id": _WALLETS,
    "amount": _AMOUNTS,
    "currency": _CURRENCIES,
    "legs": _legs(),
    "hold_id": _WALLETS,
    "reverses": _WALLETS,
    "expires_in_s": st.integers(0, 366 * 86_400 + 1),
    "final": st.booleans(),
    "force": st.booleans(),
    "valid_until": _MOMENTS,
    "execute_at": _MOMENTS,
    "conditions": st.lists(
        st.fixed_dictionaries(
            {"wallet_id": _WALLETS},
            optional={
                "version": st.integers(-1, 2**63),
                "available_at_least": _AMOUNTS,
                "balance_at_most": _AMOUNTS,
            },
        ),
        max_size=3,
    ),
    "description": st.text(max_size=5),
}
_OWN: Final = {
    "journal": {"legs"},
    "hold": {"source_wallet_id", "amount", "currency"},
    "capture": {"hold_id"},
    "release": {"hold_id"},
    "reversal": {"reverses"},
    "deposit": {"destination_wallet_id", "amount", "currency", "valid_until"},
    "withdrawal": {"source_wallet_id", "amount", "currency", "conditions"},
    "transfer": {"source_wallet_id", "destination_wallet_id", "amount", "currency", "execute_at"},
}


@st.composite
def _bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Requests of every type: what they must have, some other fields, and sometimes nonsense."""
    kind = draw(st.sampled_from(sorted(_OWN)))
    names = _OWN[kind] | draw(st.sets(st.sampled_from(sorted(_FIELDS)), max_size=2)) - {"type"}
    body = {name: draw(_FIELDS[name]) for name in sorted(names)}
    if draw(st.integers(0, 4)) == 0:
        body[draw(st.sampled_from(sorted(names)))] = draw(_ODD)
    return {"type": kind, "idempotency_key": "k", **body}


def _command(body: dict[str, Any]) -> TransactionCommand | None:
    try:
        return command_of(body)
    except ContractError as error:
        faults = error.errors
    assert faults
    assert all(one.pointer.startswith("/") and one.detail for one in faults)
    return None


@given(_bodies())
def test_what_is_accepted_can_be_recorded_and_shown(body: dict[str, Any]) -> None:
    command = _command(body)
    if command is None:
        return
    try:
        command = resolved(command, _HOLD)
    except ContractError:
        return
    submission = Submission("shop", command)
    columns = recording_arguments([submission])
    row = RecordedRow(UUID(_IDS[1]), is_new=True, is_same=True, is_pending=True, created_at=_NOW)
    shown = orjson.loads(new_view(submission, row))

    assert len(columns) == (12 if command.terms is None else 13)
    assert command.money is None or 0 < command.money.minor <= AMOUNT_MINOR_MAX
    assert shown["type"] == body["type"]
    if command.terms is not None:
        terms = orjson.loads(columns[-1][0])
        sums: dict[str, int] = defaultdict(int)
        for leg in terms.get("legs", ()):
            assert 0 < abs(leg["amount"]) <= AMOUNT_MINOR_MAX
            sums[leg["currency"]] += leg["amount"]
        assert set(sums.values()) <= {0}


@given(_bodies(), st.randoms(use_true_random=False))
def test_the_order_of_fields_and_the_way_to_write_them_change_nothing(
    body: dict[str, Any], shuffled: random.Random
) -> None:
    command = _command(body)
    if command is None:
        return
    names = list(body)
    shuffled.shuffle(names)
    again = {name: body[name] for name in names}
    if isinstance(again.get("amount"), str):
        point = "" if "." in again["amount"] else "."
        again["amount"] = f"{again['amount']}{point}0"
    if "hold_id" in again:
        again["hold_id"] = again["hold_id"].upper()
    other = _command(again)

    # A zero more may be a decimal too many for a text of forty characters.
    assert other is None or other.fingerprint == command.fingerprint
    assert decode_json(orjson.dumps(body)) == body
