"""Which wallets a transaction needs, and which upstream system may ask for it: the pure part."""

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from contracts.identifiers import external_wallet_id
from contracts.requests.parties import (
    Parties,
    parties_of_command,
    parties_of_row,
    wallets_of_row,
)
from contracts.requests.transaction import command_of
from contracts.scopes import Reach
from ledger.words import FailureCode
from processor.restrictions import Asked, refusal_of
from runtime.access.submitters import UpstreamClient

_A, _B, _C, _OTHER = (UUID(int=n) for n in range(1, 5))
_EXTERNAL = external_wallet_id("USD")


def _parties(body: dict[str, Any], other: dict[str, Any] | None = None) -> Parties:
    return parties_of_command(command_of({"idempotency_key": "k", **body}), other)


def _money(kind: str, **wallets: UUID) -> dict[str, Any]:
    named = {f"{side}_wallet_id": str(one) for side, one in wallets.items()}
    return {"type": kind, "amount": "1.00", "currency": "USD", **named}


def _row(kind: str, source: UUID | None, destination: UUID | None, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "submitter": "them",
        "source_wallet_id": source,
        "destination_wallet_id": destination,
        "currency": "USD",
        "legs": None,
        **more,
    }


def _legs(*legs: tuple[UUID, int, bool]) -> str:
    return orjson.dumps([[str(one), "USD", amount, out] for one, amount, out in legs]).decode()


@pytest.mark.parametrize(
    ("body", "moved", "is_deposit"),
    [
        (_money("deposit", destination=_A), {_A}, True),
        (_money("withdrawal", source=_A), {_A}, False),
        (_money("transfer", source=_A, destination=_B), {_A}, False),
        (_money("hold", source=_A, destination=_B), {_A}, False),
        (_money("transfer", source=_EXTERNAL, destination=_B), {_EXTERNAL}, False),
    ],
    ids=str,
)
def test_money_may_be_sent_to_anybody_and_comes_from_one_s_own(
    body: dict[str, Any], moved: set[UUID], *, is_deposit: bool
) -> None:
    assert _parties(body) == Parties(frozenset(moved), frozenset(), is_deposit)


def test_a_journal_needs_what_it_debits_and_with_money_from_outside_all() -> None:
    def journal(*legs: tuple[UUID | None, str]) -> dict[str, Any]:
        return {
            "type": "journal",
            "legs": [
                {
                    **({"wallet_id": str(one)} if one else {"external": True}),
                    "amount": amount,
                    "currency": "USD",
                }
                for one, amount in legs
            ],
        }

    inside = _parties(journal((_A, "-2"), (_B, "1"), (_C, "1")))
    outward = _parties(journal((_A, "-2"), (_B, "1"), (None, "1")))
    inward = _parties(journal((None, "-2"), (_A, "-1"), (_B, "3")))

    assert inside == Parties(frozenset({_A}))
    assert outward == Parties(frozenset({_A}))
    assert inward == Parties(frozenset({_A, _B}), is_deposit=True)


def test_a_condition_needs_its_wallet_and_a_wallet_is_not_asked_about_alone() -> None:
    condition = {"wallet_id": str(_C), "balance_at_most": "1"}
    asked = _parties({**_money("withdrawal", source=_A), "conditions": [condition]})
    nobody = _parties({"type": "release", "hold_id": str(uuid4()), "conditions": [condition]})

    assert asked.needed == {_A, _C}
    assert not asked.are_among({_A})
    assert asked.are_among({_A, _C})
    assert not nobody.are_among({_C})


@pytest.mark.parametrize("kind", ["capture", "release"])
def test_what_ends_a_hold_needs_the_hold_s_wallet(kind: str) -> None:
    body = {"type": kind, "hold_id": str(_OTHER)}

    parties = _parties(body, _row("hold", _A, _B))

    assert parties.moved == {_A}
    assert parties.made_by == "them"
    assert _parties(body, _row("transfer", _A, _B)).moved == frozenset()
    assert _parties(body, None).moved == frozenset()


def test_a_reversal_needs_all_wallets_and_brings_back_what_was_paid_out() -> None:
    body = {"type": "reversal", "reverses": str(_OTHER)}
    legs = _legs((_A, -2, False), (_B, 1, False), (_EXTERNAL, 1, True))

    assert _parties(body, _row("transfer", _A, _B)) == Parties(frozenset({_A, _B}))
    assert _parties(body, _row("deposit", _EXTERNAL, _A)) == Parties(frozenset({_A}))
    assert _parties(body, _row("withdrawal", _A, _EXTERNAL)) == Parties(
        frozenset({_A}), is_deposit=True
    )
    assert _parties(body, _row("journal", _A, None, currency=None, legs=legs)) == Parties(
        frozenset({_A, _B}), is_deposit=True
    )
    assert _parties(body, None).moved == frozenset()


def test_a_recorded_row_needs_what_its_command_did() -> None:
    legs = _legs((_A, -1, False), (_B, 1, False))
    terms = {"conditions": orjson.dumps([{"wallet_id": str(_C)}]).decode(), "legs": None}

    assert parties_of_row(_row("deposit", _EXTERNAL, _A)).needed == {_A}
    assert parties_of_row(_row("withdrawal", _A, _EXTERNAL), terms).needed == {_A, _C}
    assert parties_of_row(_row("reversal", _B, _A)).needed == {_A, _B}
    assert parties_of_row(_row("capture", None, None)).moved == frozenset()
    assert parties_of_row(_row("journal", _A, None), {"conditions": None, "legs": legs}).needed == {
        _A
    }
    assert parties_of_row(_row("reversal", None, _A), None, legs).needed == {_A, _B}
    assert wallets_of_row(_row("journal", _A, None, legs=legs)) == {_A, _B}


def _asked(client: UpstreamClient, needed: set[UUID], kind: str = "transfer") -> Asked:
    return Asked(_OTHER, client, kind, frozenset({"USD"}), Parties(frozenset(needed)))


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (UpstreamClient("a", Reach.ALL), None),
        (UpstreamClient("a", Reach.OWN), None),
        (UpstreamClient("b", Reach.OWN), FailureCode.WALLET_NOT_FOUND),
        (UpstreamClient("a", Reach.ALL, is_disabled=True), FailureCode.NOT_PERMITTED),
        (UpstreamClient("a", Reach.ALL, types=frozenset({"hold"})), FailureCode.NOT_PERMITTED),
        (UpstreamClient("a", Reach.ALL, currencies=frozenset()), FailureCode.NOT_PERMITTED),
        (UpstreamClient("a", Reach.ALL, owners=frozenset({"x"})), FailureCode.NOT_PERMITTED),
        (UpstreamClient("a", Reach.ALL, owners=frozenset({"mine"})), None),
        # Whose it is comes before what a record says of its currency or owner.
        (
            UpstreamClient("b", Reach.OWN, currencies=frozenset(), owners=frozenset()),
            FailureCode.WALLET_NOT_FOUND,
        ),
    ],
    ids=str,
)
def test_an_upstream_system_is_refused_by_the_first_line_that_applies(
    client: UpstreamClient, code: FailureCode | None
) -> None:
    found = refusal_of(_asked(client, {_A}), theirs={"a": {_A}}, owners={_A: "mine"})

    assert found == code
