"""The quick ways through a request lead where the thorough ones lead."""

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts.identifiers import external_wallet_id
from contracts.json import decode_json
from contracts.money import AMOUNT_MINOR_MAX, EXPONENT_MAX, EXPONENTS, register_asset
from contracts.problems import ContractError
from contracts.record import RecordedRow, Submission
from contracts.representations.event import event_body
from contracts.representations.transaction import pending_view, render_transaction
from contracts.requests.transaction import (
    Channel,
    TransactionCommand,
    command_of,
    judged_command,
    plain_request,
)
from contracts.requests.validators import METADATA_DEPTH_MAX, METADATA_VALUES_MAX
from ledger.words import TransactionStatus

_ASSETS: Final = {"POINTS0": 0, "GOLD4711": 4, "POINTS8": 8, "WEI123456789": EXPONENT_MAX}
for _code, _exponent in _ASSETS.items():
    register_asset(_code, _exponent, is_usable=True)

_ID: Final = "0197f0a4-55d1-7c1e-9d5d-0a3f0f5a7c10"
_NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)
_SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["\x00", "\ud800", "\\u0000", "é", '"', "x" * 501]),
)
_VALUES: Final = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
_WALLETS: Final = st.one_of(
    st.uuids().map(str),
    st.sampled_from(
        [
            _ID,
            _ID.upper(),
            _ID.replace("-", ""),
            f"{{{_ID}}}",
            f"urn:uuid:{_ID}",
            _ID[:-1],
            str(external_wallet_id("USD")),
        ]
    ),
)
_AMOUNTS: Final = st.one_of(
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,14})?", fullmatch=True),
    st.decimals(min_value=0, max_value=10**18, places=2).map(str),
    st.sampled_from(
        [
            "10000000000000",
            "10000000000000.00",
            "10000000000000.01",
            "9999999999999.99",
            "1000000000000000",
            "1000000000000.001",
            "100000000000.0001",
            "99999999999999.9999",
        ]
    ),
    st.sampled_from(["1.00", "0", "0.00", "٣", "1.", ".5", "1e2", "-1", "+1", " 1", "1\n"]),
)
_FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "type": st.sampled_from(["deposit", "withdrawal", "transfer", "reversal"]),
    "source_wallet_id": _WALLETS,
    "destination_wallet_id": _WALLETS,
    "amount": _AMOUNTS,
    "currency": st.sampled_from(
        ["USD", "JPY", "KWD", "CLF", *_ASSETS, "HRK", "BYR", "usd", "XXX", "USD\n", "POINTS8\n"]
    ),
    "description": st.text(max_size=20),
    "metadata": st.dictionaries(st.text(max_size=6), _VALUES, max_size=3)
    | st.sampled_from(
        [
            {str(number): number for number in range(METADATA_VALUES_MAX)},
            {str(number): number for number in range(METADATA_VALUES_MAX + 1)},
            {"a": "x" * 4088},
            {"a": "x" * 4089},
        ]
    ),
    "idempotency_key": st.text(max_size=8) | st.sampled_from(["k", "k" * 256]),
    "surprise": _VALUES,
}


@st.composite
def _bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly valid requests: each field may be odd, absent or of another kind."""
    kind = draw(st.sampled_from(["deposit", "withdrawal", "transfer"]))
    body: dict[str, Any] = {"type": kind, "amount": "1.00", "currency": "USD"}
    if kind != "deposit":
        body["source_wallet_id"] = draw(_WALLETS)
    if kind != "withdrawal":
        body["destination_wallet_id"] = draw(_WALLETS)
    for name in draw(st.sets(st.sampled_from(sorted(_FIELDS)), max_size=3)):
        body[name] = draw(st.one_of(_FIELDS[name], _FIELDS[name], _VALUES))
    for name in draw(st.sets(st.sampled_from(sorted(body)), max_size=1)):
        if draw(st.integers(0, 5)) == 0:
            del body[name]
    return body


def _outcome(decide: Any, *arguments: Any, **named: Any) -> Any:
    try:
        return decide(*arguments, **named)
    except ContractError as error:
        return (error.code, error.detail, error.errors)


@given(_bodies(), st.sampled_from([None, "k", "other", "ö", ""]))
def test_a_plain_request_is_what_the_model_makes_of_it(
    body: dict[str, Any], header_key: str | None
) -> None:
    quick = _outcome(command_of, body, header_key=header_key)

    assert quick == _outcome(judged_command, body, header_key=header_key)


@given(
    st.sampled_from(sorted(EXPONENTS)),
    st.integers(1, 10**16) | st.integers(-9, 9).map(lambda more: AMOUNT_MINOR_MAX + more),
    st.integers(0, EXPONENT_MAX + 1),
)
def test_every_exact_amount_of_a_plain_request_is_the_models(
    currency: str, digits: int, decimals: int
) -> None:
    text = str(digits).rjust(decimals + 1, "0")
    amount = f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text
    body = {
        "type": "deposit",
        "destination_wallet_id": _ID,
        "amount": amount,
        "currency": currency,
        "idempotency_key": "k",
    }

    outcome = _outcome(command_of, body)
    assert outcome == _outcome(judged_command, body)
    if isinstance(outcome, TransactionCommand):
        assert outcome.plain_money.minor <= AMOUNT_MINOR_MAX


def test_the_usual_request_is_plain() -> None:
    body = {
        "type": "transfer",
        "source_wallet_id": _ID,
        "destination_wallet_id": _ID,
        "amount": "10.50",
        "currency": "USD",
        "description": "Order 4711, naïve",
        "metadata": {"order": 4711, "paid": True, "note": None, "by": "card"},
    }

    assert plain_request(body) is not None


@given(_bodies(), st.text(max_size=20), st.uuids(), st.datetimes(timezones=st.just(UTC)))
def test_a_new_transaction_is_answered_as_it_would_be_read(
    body: dict[str, Any], submitter: str, transaction_id: UUID, created_at: datetime
) -> None:
    command = _outcome(command_of, {**body, "idempotency_key": '"k\\'})
    assume(isinstance(command, TransactionCommand))
    row = RecordedRow(
        id=transaction_id, is_new=True, is_same=True, is_pending=True, created_at=created_at
    )

    written = pending_view(Submission(submitter, command), row)

    assert written == orjson.dumps(render_transaction(_row(command, submitter, row)))


@given(
    _bodies(),
    st.integers(1, 40) | st.integers(200, 300),
    st.sampled_from([(b'{"a":', b"}"), (b"[", b"]")]),
    st.sampled_from(["\x01", '"', "\u2028", "\U0001f600"]),
)
def test_what_is_accepted_can_be_written_by_every_writer(
    body: dict[str, Any], levels: int, kind: tuple[bytes, bytes], character: str
) -> None:
    start, end = kind
    deep = b'"metadata":{"deep":' + start * levels + b"1" + end * levels + b"}}"
    body = {**body, "description": character * 500, "idempotency_key": '"' * 255}
    body.pop("metadata", None)
    sent = json.dumps(body).encode()[:-1] + b"," + deep
    try:
        command = command_of(decode_json(sent))
    except (ContractError, ValueError):
        shallow = _outcome(command_of, body)
        assert levels >= METADATA_DEPTH_MAX or not isinstance(shallow, TransactionCommand)
        return
    row = RecordedRow(UUID(_ID), is_new=True, is_same=True, is_pending=True, created_at=_NOW)
    stored = _row(command, "shop", row)

    read = render_transaction(stored)
    event = event_body(stored, event_id="e", event_type="transaction.failed", occurred_at="now")
    page = orjson.dumps({"items": [{"status_code": 202, "transaction": read}]})
    assert levels < METADATA_DEPTH_MAX
    assert orjson.loads(event)["metadata"] == orjson.loads(deep[len(b'"metadata":') : -1])
    assert orjson.loads(page)["items"][0]["transaction"] == orjson.loads(orjson.dumps(read))
    assert decode_json(event)["description"] == body["description"]


def _row(command: TransactionCommand, submitter: str, row: RecordedRow) -> dict[str, Any]:
    """The row of the view `transaction_views` that was recorded."""
    external = external_wallet_id(command.plain_money.currency)
    return {
        "id": row.id,
        "idempotency_key": command.idempotency_key,
        "submitter": submitter,
        "channel": Channel.HTTP,
        "type": command.type,
        "source_wallet_id": command.source_wallet_id or external,
        "destination_wallet_id": command.destination_wallet_id or external,
        "amount": command.plain_money.minor,
        "currency": command.plain_money.currency,
        "status": TransactionStatus.PENDING,
        "failure_code": None,
        "failure_detail": None,
        "description": command.description,
        "metadata": None if command.metadata == b"{}" else command.metadata.decode(),
        "reverses": None,
        "reversed_by": None,
        "has_terms": None,
        "reversals": None,
        "reversed_amount": None,
        "source_sequence": None,
        "destination_sequence": None,
        "source_balance_after": None,
        "destination_balance_after": None,
        "created_at": row.created_at,
        "completed_at": None,
    }
