"""What a request of each type must, may and must not have, and what is wrong with its terms."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest

from contracts.identifiers import external_wallet_id
from contracts.money import AMOUNT_MINOR_MAX, Money, format_minor
from contracts.problems import ContractError
from contracts.requests.references import atomic, other_id, resolved
from contracts.requests.terms import (
    AHEAD_MAX,
    CONDITIONS_MAX,
    FITS,
    HOLD_S_DEFAULT,
    HOLD_S_MAX,
    LEGS_MAX,
    RequestedTerms,
    check_ahead,
)
from contracts.requests.transaction import TransactionCommand, command_of, reversal_of
from ledger.words import TransactionType

_ALICE: Final = "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"
_BOB: Final = "0199a1f2-7a90-72c8-8001-c84e10d7f0aa"
_OTHER: Final = "019aa3b0-41d2-7e14-8001-9b7f02c4d6e8"
_LEG: Final[dict[str, Any]] = {"wallet_id": _ALICE, "amount": "-1", "currency": "USD"}
_LEGS: Final = [_LEG, {"external": True, "amount": 1, "currency": "USD"}]
_VALUES: Final[dict[str, Any]] = {
    "source_wallet_id": _ALICE,
    "destination_wallet_id": _BOB,
    "amount": "1.00",
    "currency": "USD",
    "legs": _LEGS,
    "hold_id": _OTHER,
    "expires_in_s": 60,
    "final": False,
    "reverses": _OTHER,
    "force": False,
}


def _least(kind: TransactionType) -> dict[str, Any]:
    """The body that has what the type must have, and nothing else."""
    must = {name: _VALUES[name] for name in _VALUES if name in FITS[kind].must}
    return {"type": kind.value, "idempotency_key": "k", **must}


def _pointers(body: object) -> list[str]:
    with pytest.raises(ContractError) as caught:
        command_of(body)
    return [error.pointer for error in caught.value.errors]


def _terms(body: object) -> RequestedTerms:
    terms = command_of(body).terms
    assert terms is not None
    return terms


@pytest.mark.parametrize("kind", TransactionType)
def test_the_least_of_each_type_is_enough(kind: TransactionType) -> None:
    command = command_of(_least(kind))

    assert command.type is kind
    assert (command.terms is None) == (kind in {"deposit", "withdrawal", "transfer"})


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in TransactionType for name in sorted(FITS[kind].must)]
)
@pytest.mark.parametrize("is_null", [False, True])
def test_what_a_type_must_have_cannot_be_left_out(
    kind: TransactionType, name: str, *, is_null: bool
) -> None:
    body = _least(kind)
    body |= {name: None}
    if not is_null:
        del body[name]

    with pytest.raises(ContractError) as caught:
        command_of(body)
    [error] = caught.value.errors
    assert (error.pointer, error.detail) == (f"/{name}", f"must be set for a {kind}")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in TransactionType for name in sorted(FITS[kind].may)]
)
def test_what_a_type_may_have_changes_its_content(kind: TransactionType, name: str) -> None:
    least, more = command_of(_least(kind)), command_of({**_least(kind), name: _VALUES[name]})

    # `force: false` is what is meant without it.
    assert (least.fingerprint == more.fingerprint) == (name == "force")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in TransactionType
        for name in sorted(_VALUES.keys() - FITS[kind].must - FITS[kind].may)
    ],
)
def test_what_a_type_must_not_have_is_pointed_at(kind: TransactionType, name: str) -> None:
    with pytest.raises(ContractError) as caught:
        command_of({**_least(kind), name: _VALUES[name]})

    [error] = caught.value.errors
    assert (error.pointer, error.detail) == (f"/{name}", f"must not be set for a {kind}")
    assert command_of({**_least(kind), name: None}) == command_of(_least(kind))


@pytest.mark.parametrize("kind", TransactionType)
def test_every_type_takes_times_and_conditions(kind: TransactionType) -> None:
    body = {
        **_least(kind),
        "valid_until": "2026-12-02T01:00:00.123456789+01:00",
        "execute_at": "2026-12-01T00:00:00Z",
        "conditions": [{"wallet_id": _ALICE, "version": 0}],
    }
    terms = _terms(body)

    assert terms.valid_until == datetime(2026, 12, 2, 0, 0, 0, 123456, tzinfo=UTC)
    assert terms.execute_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert terms.conditions == ({"wallet_id": _ALICE, "version": 0},)


@pytest.mark.parametrize(
    "moment",
    [
        "2026-12-01", "2026-12-01T00:00:00", "2026-13-01T00:00:00Z", "2026-12-01T24:00:01Z",
        "2026-12-01T00:00:60Z", "1969-12-31T00:00:00Z", "9999-01-01T00:00:00Z", "now", "", 0, 1.5,
        ["2026-12-01T00:00:00Z"], "2026-12-01T00:00:00.Z", "2026-12-01T00:00:00+25:00",
        "٢٠٢٦-12-01T00:00:00Z", "2026-12-01T00:00:00Z\n",
    ],
)  # fmt: skip
def test_a_moment_is_rfc_3339_with_its_offset(moment: object) -> None:
    assert _pointers({**_least(TransactionType.RELEASE), "valid_until": moment}) == ["/valid_until"]


@pytest.mark.parametrize("at", ["2026-12-01T00:00:00Z", "2026-12-01T01:00:00Z"])
def test_it_is_valid_longer_than_until_it_is_executed(at: str) -> None:
    body = {
        **_least(TransactionType.TRANSFER),
        "valid_until": "2026-12-01T01:00:00+01:00",
        "execute_at": at,
    }

    assert _pointers(body) == ["/valid_until"]


def test_nothing_is_executed_further_ahead_than_a_year() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)

    check_ahead(None, now)
    check_ahead(RequestedTerms(execute_at=now + AHEAD_MAX), now)
    with pytest.raises(ContractError) as caught:
        check_ahead(RequestedTerms(execute_at=now + AHEAD_MAX + timedelta(microseconds=1)), now)
    assert caught.value.errors[0].pointer == "/execute_at"


@pytest.mark.parametrize(
    ("seconds", "is_valid"),
    [(0, False), (-1, False), (1, True), (HOLD_S_MAX, True), (HOLD_S_MAX + 1, False),
     ("60", False), (True, False), (Decimal("60.0"), False)],
)  # fmt: skip
def test_a_hold_is_open_for_a_second_to_a_year(seconds: object, *, is_valid: bool) -> None:
    body = {**_least(TransactionType.HOLD), "expires_in_s": seconds}

    if is_valid:
        assert _terms(body).expires_in_s == seconds
    else:
        assert _pointers(body) == ["/expires_in_s"]
    assert _terms(_least(TransactionType.HOLD)).expires_in_s == HOLD_S_DEFAULT


def _journal(*legs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "journal", "idempotency_key": "k", "legs": list(legs)}


def _legs(*amounts: object, currency: str = "USD") -> list[dict[str, Any]]:
    return [{"wallet_id": _ALICE, "amount": one, "currency": currency} for one in amounts]


@pytest.mark.parametrize(
    ("legs", "pointers"),
    [
        (_legs("1"), ["/legs"]),
        (_legs(), ["/legs"]),
        (_legs(*["1", "-1"] * 50, "1", "-1"), ["/legs"]),
        (_legs("1", "-2"), ["/legs"]),
        ([*_legs("1", "-1"), *_legs("1", currency="EUR")], ["/legs"]),
        (_legs("0", "-0"), ["/legs/0/amount", "/legs/1/amount"]),
        (_legs("1.001", "-1.001"), ["/legs/0/amount", "/legs/1/amount"]),
        (_legs("+1", "-1"), ["/legs/0/amount"]),
        (_legs("--1", "1"), ["/legs/0/amount"]),
        (_legs("-", "1"), ["/legs/0/amount"]),
        (_legs("1e2", "-100"), ["/legs/0/amount"]),
        (_legs(None, "1"), ["/legs/0/amount"]),
        (_legs("10000000000000.01", "-10000000000000.01"), ["/legs/0/amount", "/legs/1/amount"]),
        (_legs(Decimal("1e400"), "-1"), ["/legs/0/amount"]),
        (_legs(Decimal("1e-400"), "-1"), ["/legs/0/amount"]),
        (_legs("1", "-1", currency="XXX"), ["/legs/0/currency", "/legs/1/currency"]),
        (_legs("1", "-1", currency="usd"), ["/legs/0/currency", "/legs/1/currency"]),
        ([{"amount": "1", "currency": "USD"}, *_legs("-1")], ["/legs/0"]),
        ([{**_LEG, "external": True}, *_legs("1")], ["/legs/0"]),
        ([{**_LEG, "external": 1}, *_legs("1")], ["/legs/0/external"]),
        ([{**_LEG, "note": 1}, *_legs("1")], ["/legs/0/note"]),
        (["x", *_legs("1")], ["/legs/0"]),
        ("x", ["/legs"]),
        ([{str(number): 1 for number in range(60_000)}, _LEG], ["/legs"]),
        (
            [{"external": True, "amount": one, "currency": "USD"} for one in ("1", "-1")],
            ["/legs"],
        ),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_journal_has_legs_that_sum_to_zero(legs: Any, pointers: list[str]) -> None:
    assert _pointers({"type": "journal", "idempotency_key": "k", "legs": legs}) == pointers


def test_a_journal_may_be_as_long_and_as_large_as_its_bounds() -> None:
    most = format_minor(AMOUNT_MINOR_MAX, "USD")
    terms = _terms(_journal(*_legs(*[most, f"-{most}"] * (LEGS_MAX // 2))))

    assert len(terms.legs) == LEGS_MAX
    assert {leg.minor for leg in terms.legs} == {AMOUNT_MINOR_MAX, -AMOUNT_MINOR_MAX}


def test_a_journal_may_have_several_currencies_and_sides_outside() -> None:
    command = command_of(
        _journal(
            {"wallet_id": _BOB, "amount": "5", "currency": "JPY"},
            {"external": True, "amount": "-5", "currency": "JPY"},
            {"wallet_id": _ALICE, "amount": "-0.50", "currency": "USD"},
            {"external": True, "amount": Decimal("0.5"), "currency": "USD"},
        )
    )
    assert command.terms is not None
    legs = [(leg.wallet_id, leg.currency, leg.minor, leg.is_external) for leg in command.terms.legs]

    assert legs == [
        (UUID(_BOB), "JPY", 5, False),
        (external_wallet_id("JPY"), "JPY", -5, True),
        (UUID(_ALICE), "USD", -50, False),
        (external_wallet_id("USD"), "USD", 50, True),
    ]
    assert (command.money, command.currency) == (None, None)
    # The first wallet that it debits says where it stands in the order.
    assert (command.source_wallet_id, command.destination_wallet_id) == (UUID(_ALICE), None)


@pytest.mark.parametrize(
    ("conditions", "pointers"),
    [
        ([], ["/conditions"]),
        ([{"wallet_id": _ALICE}], ["/conditions/0"]),
        ([{"version": 1}], ["/conditions/0/wallet_id"]),
        ([{"wallet_id": _ALICE, "version": -1}], ["/conditions/0/version"]),
        ([{"wallet_id": _ALICE, "version": 2**63}], ["/conditions/0/version"]),
        ([{"wallet_id": _ALICE, "version": "1"}], ["/conditions/0/version"]),
        ([{"wallet_id": _ALICE, "balance_at_most": "x"}], ["/conditions/0/balance_at_most"]),
        (
            [{"wallet_id": _ALICE, "available_at_least": f"1.{'0' * 12}1"}],
            ["/conditions/0/available_at_least"],
        ),
        ([{"wallet_id": _ALICE, "balance_at_most": "1" * 20}], ["/conditions/0/balance_at_most"]),
        ([{"wallet_id": _ALICE, "version": 1}] * 2, ["/conditions/1/wallet_id"]),
        ([{"wallet_id": _ALICE, "version": 1}] * (CONDITIONS_MAX + 1), ["/conditions"]),
        ({"wallet_id": _ALICE, "version": 1}, ["/conditions"]),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_condition_asks_something_of_one_wallet(conditions: Any, pointers: list[str]) -> None:
    body = {**_least(TransactionType.TRANSFER), "conditions": conditions}

    assert _pointers(body) == pointers


def test_conditions_keep_their_amounts_as_they_were_meant() -> None:
    condition = {
        "wallet_id": _ALICE,
        "version": 2**63 - 1,
        "available_at_least": "0.000000000000",
        "balance_at_most": "-9999999999999999999.10",
    }
    body = {**_least(TransactionType.TRANSFER), "conditions": [condition]}

    assert _terms(body).conditions == (
        {**condition, "available_at_least": "0", "balance_at_most": "-9999999999999999999.1"},
    )


_HOLD: Final[dict[str, Any]] = {
    "type": "hold",
    "source_wallet_id": UUID(_ALICE),
    "destination_wallet_id": None,
    "currency": "USD",
}


def _capture(**fields: Any) -> TransactionCommand:
    return command_of({**_least(TransactionType.CAPTURE), **fields})


def test_a_capture_goes_to_its_own_destination_or_the_hold_s_or_outside() -> None:
    destinations = [
        resolved(command, row).destination_wallet_id
        for command, row in (
            (_capture(destination_wallet_id=_BOB), {**_HOLD, "destination_wallet_id": None}),
            (_capture(), {**_HOLD, "destination_wallet_id": UUID(_BOB)}),
            (_capture(), _HOLD),
        )
    ]
    part = resolved(_capture(amount="1.50"), _HOLD)
    rest = resolved(_capture(), _HOLD)

    assert destinations == [UUID(_BOB), UUID(_BOB), external_wallet_id("USD")]
    assert (part.source_wallet_id, part.money) == (UUID(_ALICE), Money(150, "USD"))
    assert (rest.money, rest.currency) == (None, "USD")


def test_a_reversal_turns_the_wallets_round() -> None:
    moved = {
        "type": "transfer",
        "source_wallet_id": UUID(_ALICE),
        "destination_wallet_id": UUID(_BOB),
        "currency": "JPY",
    }
    command = reversal_of(UUID(_OTHER), {"amount": 7}, header_key="k")
    found = resolved(command, moved)

    assert other_id(command) == UUID(_OTHER)
    assert (found.source_wallet_id, found.destination_wallet_id) == (UUID(_BOB), UUID(_ALICE))
    assert found.money == Money(7, "JPY")
    with pytest.raises(ContractError):
        resolved(reversal_of(UUID(_OTHER), {"amount": "7.5"}, header_key="k"), moved)


def test_a_release_has_no_destination() -> None:
    row = {**_HOLD, "destination_wallet_id": UUID(_BOB)}
    found = resolved(command_of(_least(TransactionType.RELEASE)), row)

    assert (found.source_wallet_id, found.destination_wallet_id) == (UUID(_ALICE), None)


@pytest.mark.parametrize("row", [None, {**_HOLD, "type": "deposit"}])
def test_what_names_no_hold_knows_nothing_and_is_still_the_same_request(row: Any) -> None:
    command = _capture(destination_wallet_id=_BOB, amount="1")
    found = resolved(command, row)

    assert (found.source_wallet_id, found.destination_wallet_id) == (None, None)
    assert (found.money, found.currency) == (None, None)
    assert found.fingerprint == command.fingerprint


def test_a_part_of_a_journal_cannot_be_reversed() -> None:
    journal = {
        "type": "journal",
        "source_wallet_id": UUID(_ALICE),
        "destination_wallet_id": None,
        "currency": None,
    }
    whole = resolved(reversal_of(UUID(_OTHER), {}, header_key="k"), journal)

    assert whole.destination_wallet_id == UUID(_ALICE)
    with pytest.raises(ContractError) as caught:
        resolved(reversal_of(UUID(_OTHER), {"amount": "1"}, header_key="k"), journal)
    assert caught.value.errors[0].pointer == "/amount"


def test_what_names_nothing_is_left_as_it_is() -> None:
    command = command_of(_least(TransactionType.HOLD))

    assert resolved(command, None) is command


def _members(*keys: str) -> list[TransactionCommand]:
    return [command_of({**_least(TransactionType.TRANSFER), "idempotency_key": k}) for k in keys]


def test_an_atomic_batch_is_named_by_all_that_is_in_it() -> None:
    first = atomic(_members("1", "2"), submitter="shop")
    others = [
        atomic(_members("1", "2"), submitter="other"),
        atomic(_members("2", "1"), submitter="shop"),
        atomic(_members("1", "2", "3"), submitter="shop"),
        atomic(_members("12"), submitter="shop"),
    ]
    names = [{one.terms and one.terms.batch_id for one in batch} for batch in [first, *others]]

    assert first == atomic(_members("1", "2"), submitter="shop")
    assert [len(name) for name in names] == [1] * 5
    assert len(set.union(*names)) == 5
    assert first[0].fingerprint != command_of(_least(TransactionType.TRANSFER)).fingerprint


def test_the_fingerprint_of_a_member_changes_with_the_others() -> None:
    alone, pair = atomic(_members("1"), submitter="s"), atomic(_members("1", "2"), submitter="s")

    assert alone[0].fingerprint != pair[0].fingerprint
