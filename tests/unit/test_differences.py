"""A dead letter's body beside the contract: place by place, by the models that refuse it."""

from typing import Any

import orjson
import pytest

from contracts.differences import DIFFERENCES_MAX, Comparison, DifferenceKind, compared
from tests.integration.dead_letters.letters import deposit


def _compared(body: Any) -> Comparison:
    return compared(orjson.dumps(body), submitter="shop")


def _places(comparison: Comparison) -> list[tuple[str, DifferenceKind]]:
    return sorted((one.pointer, one.kind) for one in comparison.differences)


def test_a_body_as_the_contract_has_it_has_no_difference() -> None:
    found = _compared({"version": 1, **deposit()})

    assert found.differences == ()
    assert found.refusal is None


def test_what_is_unknown_what_is_missing_and_what_is_wrong_are_told_at_once() -> None:
    body = {"version": 2, **deposit(amount="1,00"), "colour": "red"}
    del body["currency"]

    found = _compared(body)

    assert _places(found) == [
        ("/amount", DifferenceKind.WRONG),
        ("/colour", DifferenceKind.UNKNOWN),
        ("/currency", DifferenceKind.MISSING),
        ("/version", DifferenceKind.WRONG),
    ]
    assert found.refusal is not None
    assert found.refusal.startswith("unknown_version")


def test_what_a_mended_field_would_bring_up_is_not_told_twice() -> None:
    found = _compared({"version": 1, **deposit(amount="x")})

    assert _places(found) == [("/amount", DifferenceKind.WRONG)]


def test_fields_that_do_not_fit_the_type_are_told() -> None:
    body = {"version": 1, **deposit(), "type": "transfer", "hold_id": None}

    assert _places(_compared(body)) == [("/source_wallet_id", DifferenceKind.MISSING)]


def test_each_transaction_of_many_has_its_own_places() -> None:
    batch = [deposit("a"), {**deposit("b"), "amount": "0"}, "no object"]

    found = _compared({"version": 1, "transactions": batch, "colour": "red"})

    assert _places(found) == [
        ("/colour", DifferenceKind.UNKNOWN),
        ("/transactions/1/amount", DifferenceKind.WRONG),
        ("/transactions/2", DifferenceKind.WRONG),
    ]


@pytest.mark.parametrize("body", [b"no JSON", b"", b"\xff", b'{"a": 1, "a": 2}'])
def test_what_is_no_json_says_so(body: bytes) -> None:
    found = compared(body, submitter="shop")

    assert (found.content, found.differences) == (None, ())
    assert found.refusal is not None
    assert found.refusal.startswith("not_json")


@pytest.mark.parametrize("body", [[], 1, None, "x", {"version": True, "transactions": {}}])
def test_other_json_is_wrong_as_a_whole(body: Any) -> None:
    assert {kind for _, kind in _places(_compared(body))} == {DifferenceKind.WRONG}


def test_so_many_differences_are_told_and_no_more() -> None:
    found = _compared({"version": 1, **deposit(), **{f"x{n}": n for n in range(5_000)}})

    assert len(found.differences) == DIFFERENCES_MAX
