"""Transactions that are more than plain moves, over the real wire: recorded, read, refused."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest

from contracts.scopes import Scope
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import Answer, deposit, transfer, withdrawal

_NOBODY: Final = str(uuid4())


def _moment(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat(timespec="microseconds")


def _hold(wallet: str, amount: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "hold",
        "source_wallet_id": wallet,
        "amount": amount,
        "currency": "USD",
        **fields,
    }


def _journal(*legs: tuple[str | None, str]) -> dict[str, Any]:
    return {
        "type": "journal",
        "legs": [
            {"currency": "USD", "amount": amount}
            | ({"external": True} if wallet is None else {"wallet_id": wallet})
            for wallet, amount in legs
        ],
    }


async def _reverse(
    api: CheckedApi, transaction_id: str, body: Any, *, key: str | None = None
) -> Answer:
    headers = {"Idempotency-Key": key or uuid4().hex, "Prefer": "wait=20"}
    path = f"/v1/transactions/{transaction_id}/reverse"
    return await api.call("POST", path, json=body, headers=headers)


async def _cancel(api: CheckedApi, transaction_id: str, *, key: str | None = None) -> Answer:
    headers = {"Idempotency-Key": key or uuid4().hex}
    return await api.call("POST", f"/v1/transactions/{transaction_id}/cancel", headers=headers)


async def _funded(api: CheckedApi, amount: str = "100.00") -> str:
    wallet = await api.create_wallet()
    await api.deposit(wallet, amount)
    return wallet


async def test_a_hold_is_shown_with_what_remains_of_it(api: CheckedApi) -> None:
    alice, bob = await _funded(api), await api.create_wallet()
    body = _hold(alice, "60.00", destination_wallet_id=bob, expires_in_s=60)
    pending = await api.submit(body, wait=None)
    hold = await api.call(
        "GET", f"/v1/transactions/{pending.json['id']}", headers={"Prefer": "wait=20"}
    )
    capture = await api.submit(
        {"type": "capture", "hold_id": hold.json["id"], "amount": "25", "final": False}
    )
    after = await api.get(f"/v1/transactions/{hold.json['id']}")

    assert (pending.status, pending.json["hold"]) == (202, None)
    assert (hold.json["status"], hold.json["entries"]) == ("COMPLETED", [])
    assert (hold.json["source_wallet_id"], hold.json["destination_wallet_id"]) == (alice, bob)
    assert (hold.json["reversals"], hold.json["reversed_amount"]) == (None, None)
    assert (hold.json["hold"]["status"], hold.json["hold"]["remaining"]) == ("OPEN", "60.00")
    assert capture.json["status"] == "COMPLETED"
    assert (capture.json["hold_id"], capture.json["amount"]) == (hold.json["id"], "25.00")
    assert (capture.json["source_wallet_id"], capture.json["destination_wallet_id"]) == (alice, bob)
    assert [entry["amount"] for entry in capture.json["entries"]] == ["-25.00", "25.00"]
    assert (after.json["hold"]["remaining"], after.json["hold"]["captured"]) == ("35.00", "25.00")


async def test_a_capture_without_a_destination_leaves_the_ledger(api: CheckedApi) -> None:
    hold = await api.submit(_hold(await _funded(api), "60.00"))
    capture = await api.submit({"type": "capture", "hold_id": hold.json["id"]})
    again = await api.submit({"type": "release", "hold_id": hold.json["id"]})

    assert (capture.json["status"], capture.json["amount"]) == ("COMPLETED", "60.00")
    assert capture.json["destination_wallet_id"] is None
    assert (again.json["status"], again.json["failure"]["code"]) == ("FAILED", "hold_closed")


async def test_what_names_no_hold_is_a_failed_transaction(api: CheckedApi, wallet: str) -> None:
    deposited = await api.deposit(wallet, "1.00")
    key = uuid4().hex
    capture = {"type": "capture", "hold_id": _NOBODY, "amount": "1.00"}
    first, second = await api.submit(capture, key=key), await api.submit(capture, key=key)
    release = await api.submit({"type": "release", "hold_id": deposited.json["id"]})

    assert first.json["failure"]["code"] == release.json["failure"]["code"] == "hold_not_found"
    shown = ("amount", "currency", "source_wallet_id", "destination_wallet_id")
    assert [first.json[name] for name in shown] == [None] * 4
    assert (second.status, second.json) == (200, first.json)
    assert second.headers["Idempotency-Replayed"] == "true"


async def test_an_amount_has_the_decimals_of_the_transaction_that_is_named(
    api: CheckedApi,
) -> None:
    wallet = await api.create_wallet("JPY")
    deposited = await api.deposit(wallet, "100", "JPY")
    answer = await _reverse(api, deposited.json["id"], {"amount": "0.5"})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/amount"]


async def test_reversals_in_part_are_counted_until_the_whole_is_reversed(api: CheckedApi) -> None:
    alice, bob = await _funded(api), await api.create_wallet()
    moved = (await api.submit(transfer(alice, bob, "50.00"))).json["id"]
    part = await _reverse(api, moved, {"amount": "20.00", "description": "returned"})
    between = await api.get(f"/v1/transactions/{moved}")
    rest = await api.submit({"type": "reversal", "reverses": moved})
    whole = await api.get(f"/v1/transactions/{moved}")
    more = await _reverse(api, moved, {})

    assert (part.status, part.json["type"], part.json["reverses"]) == (200, "reversal", moved)
    assert (part.json["source_wallet_id"], part.json["destination_wallet_id"]) == (bob, alice)
    assert (between.json["status"], between.json["reversed_amount"]) == ("COMPLETED", "20.00")
    assert rest.json["amount"] == "30.00"
    assert (whole.json["status"], whole.json["reversed_amount"]) == ("REVERSED", "50.00")
    assert whole.json["reversals"] == [part.json["id"], rest.json["id"]]
    assert whole.json["reversed_by"] == rest.json["id"]
    assert more.json["failure"]["code"] == "already_reversed"
    assert await api.balance(alice) == "100.00"


async def test_both_ways_to_reverse_are_one_request(api: CheckedApi) -> None:
    moved = (await api.deposit(await api.create_wallet(), "5.00")).json["id"]
    key = uuid4().hex
    first = await _reverse(api, moved, {}, key=key)
    second = await api.submit({"type": "reversal", "reverses": moved}, key=key)
    other = await _reverse(api, moved, {"amount": "1.00"}, key=key)

    assert (second.status, second.json) == (200, first.json)
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_the_reverse_of_nothing_is_not_found(api: CheckedApi) -> None:
    answers = [
        await _reverse(api, _NOBODY, {}),
        await _reverse(api, "x", {}),
        await _reverse(api, _NOBODY, {"type": "reversal"}),
        await _reverse(api, _NOBODY, []),
    ]

    assert [(one.status, one.code) for one in answers] == [
        (404, "transaction_not_found"),
        (400, "invalid_parameter"),
        (422, "validation_failed"),
        (422, "validation_failed"),
    ]


async def test_force_is_for_operators(api: CheckedApi, make_client: MakeClient) -> None:
    clerk = await make_client(scopes=[Scope.TRANSACTIONS_WRITE, Scope.TRANSACTIONS_READ])
    wallet, other = await _funded(api, "10.00"), await api.create_wallet()
    moved = (await api.get("/v1/transactions", wallet_id=wallet)).json["items"][0]["id"]
    await api.submit(transfer(wallet, other, "10.00"))
    refused = [
        await _reverse(clerk, moved, {"force": True}),
        await clerk.submit({"type": "reversal", "reverses": moved, "force": True}),
    ]
    unforced = await _reverse(clerk, moved, {"force": False})
    forced = await _reverse(api, moved, {"force": True})

    assert {(one.status, one.code) for one in refused} == {(403, "insufficient_scope")}
    assert unforced.json["failure"]["code"] == "insufficient_funds"
    assert forced.json["status"] == "COMPLETED"
    assert await api.balance(wallet) == "-10.00"


async def test_a_journal_is_shown_with_its_legs(api: CheckedApi) -> None:
    alice, bob = await _funded(api), await api.create_wallet()
    journal = await api.submit(_journal((alice, "-10.00"), (bob, "9.50"), (None, "0.5")))
    reversal = await _reverse(api, journal.json["id"], {})
    part = await _reverse(api, journal.json["id"], {"amount": "1.00"})
    key = journal.json["idempotency_key"]
    listed = [
        (await api.get("/v1/transactions", idempotency_key=key, wallet_id=one)).json["items"]
        for one in (alice, bob, _NOBODY)
    ]

    assert [len(found) for found in listed] == [1, 1, 0]
    assert journal.json["status"] == "COMPLETED"
    shown = ("amount", "currency", "source_wallet_id", "destination_wallet_id")
    assert [journal.json[name] for name in shown] == [None] * 4
    assert [(leg["wallet_id"], leg["external"], leg["amount"]) for leg in journal.json["legs"]] == [
        (alice, False, "-10.00"), (bob, False, "9.50"), (None, True, "0.50"),
    ]  # fmt: skip
    assert [entry["amount"] for entry in journal.json["entries"]] == ["-10.00", "9.50", "0.50"]
    assert reversal.json["status"] == "COMPLETED"
    assert [leg["amount"] for leg in reversal.json["legs"]] == ["10.00", "-9.50", "-0.50"]
    assert (part.status, part.json["errors"][0]["pointer"]) == (422, "/amount")
    assert await api.balance(alice) == "100.00"


async def test_a_scheduled_transaction_is_cancelled_once(api: CheckedApi, wallet: str) -> None:
    key = uuid4().hex
    at = _moment(hours=1)
    scheduled = await api.submit({**deposit(wallet, "1.00"), "execute_at": at}, wait=None)
    before = await api.get(f"/v1/transactions/{scheduled.json['id']}")
    cancelled = await _cancel(api, scheduled.json["id"], key=key)
    again = await _cancel(api, scheduled.json["id"], key=key)
    anew = await _cancel(api, scheduled.json["id"])
    other = await _cancel(api, (await api.deposit(wallet, "1.00")).json["id"], key=key)

    assert (scheduled.status, scheduled.json["status"]) == (202, "SCHEDULED")
    assert datetime.fromisoformat(before.json["execute_at"]) == datetime.fromisoformat(at)
    assert (cancelled.status, cancelled.json["status"]) == (200, "FAILED")
    assert cancelled.json["failure"]["code"] == "cancelled"
    assert (again.status, again.json) == (200, cancelled.json)
    assert "Idempotency-Replayed" not in cancelled.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (anew.status, anew.code) == (409, "not_cancellable")
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_what_is_not_scheduled_cannot_be_cancelled(api: CheckedApi, wallet: str) -> None:
    posted = (await api.deposit(wallet, "1.00")).json["id"]
    key = uuid4().hex
    answers = [
        await _cancel(api, posted, key=key),
        await _cancel(api, _NOBODY, key=key),
        await api.call("POST", f"/v1/transactions/{posted}/cancel"),
    ]

    assert [(one.status, one.code) for one in answers] == [
        (409, "not_cancellable"),
        (404, "transaction_not_found"),
        (400, "idempotency_key_missing"),
    ]


async def test_nothing_is_scheduled_further_ahead_than_a_year(api: CheckedApi, wallet: str) -> None:
    body = deposit(wallet, "1.00")
    near = await api.submit({**body, "execute_at": _moment(days=365.9)}, wait=None)
    far = await api.submit({**body, "execute_at": _moment(days=366.1)}, wait=None)
    past = await api.submit({**body, "execute_at": _moment(days=-1)})

    assert (near.status, near.json["status"]) == (202, "SCHEDULED")
    assert (far.status, far.json["errors"][0]["pointer"]) == (422, "/execute_at")
    assert past.json["status"] == "COMPLETED"


async def test_conditions_and_a_time_that_is_over_refuse(api: CheckedApi) -> None:
    wallet = await _funded(api)
    version = (await api.get(f"/v1/wallets/{wallet}")).json["version"]
    body = deposit(wallet, "1.00")
    answers = [
        await api.submit({**body, "conditions": [{"wallet_id": wallet, **one}]})
        for one in (
            {"version": version},
            {"version": version},
            {"balance_at_most": "100.00"},
            {"available_at_least": "102.00"},
            {"available_at_least": "103.01"},
        )
    ]
    late = await api.submit({**body, "valid_until": _moment(seconds=-1)})

    assert [(one.json["failure"] or {}).get("code") for one in answers] == [
        None, "condition_failed", "condition_failed", None, "condition_failed",
    ]  # fmt: skip
    assert late.json["failure"]["code"] == "expired"
    assert await api.balance(wallet) == "102.00"


async def test_what_is_new_is_answered_as_it_is_read(api: CheckedApi, wallet: str) -> None:
    """Later, so that nothing happens in between."""
    hold = (await api.submit(_hold(await _funded(api), "1.00"))).json["id"]
    bodies: list[dict[str, Any]] = [
        deposit(wallet, "1.00"),
        withdrawal(wallet, "1.00"),
        transfer(wallet, _NOBODY, "1.00"),
        _hold(wallet, "1.00"),
        _hold(wallet, "1.00", destination_wallet_id=_NOBODY),
        {"type": "capture", "hold_id": hold},
        {"type": "capture", "hold_id": hold, "amount": "1", "destination_wallet_id": wallet},
        {"type": "capture", "hold_id": _NOBODY, "amount": "1"},
        {"type": "release", "hold_id": hold},
        {"type": "reversal", "reverses": hold, "amount": "0.50", "force": True},
        _journal((wallet, "-1.00"), (None, "1.00")),
    ]
    at, until = _moment(hours=1), _moment(hours=2)
    later = [
        {
            **body,
            "execute_at": at,
            "valid_until": until,
            "conditions": [{"wallet_id": wallet, "version": 1}],
            "description": 'naïve "text"',
            "metadata": {"b": 1, "a": [None]},
        }
        for body in bodies
    ]
    single = [await api.submit(body, wait=None) for body in later]
    keyed = [{**body, "idempotency_key": uuid4().hex} for body in later]
    answers = [
        await api.call(
            "POST", "/v1/transactions/batch", json={"mode": mode, "transactions": keyed[start:]}
        )
        for mode, start in (("independent", 5), ("atomic", 0))
    ]
    conflicting = answers[1]
    atomic = await api.call(
        "POST", "/v1/transactions/batch", json={"mode": "atomic", "transactions": keyed[:5]}
    )
    items = [*answers[0].json["items"], *atomic.json["items"]]
    new = [*(one.json for one in single), *(item["transaction"] for item in items)]

    assert {one.status for one in single} == {202}
    assert (conflicting.status, conflicting.code) == (422, "idempotency_key_reused")
    assert {one["status"] for one in new} == {"SCHEDULED"}
    for one in new:
        assert (await api.get(f"/v1/transactions/{one['id']}")).json == one


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"expires_in_s": 604_800}, {}),
        ({"amount": "1"}, {"amount": 1.00}),
        (
            {"valid_until": "2027-01-01T00:00:00Z"},
            {"valid_until": "2027-01-01T01:00:00.000+01:00"},
        ),
    ],
)
async def test_what_means_the_same_is_the_same_request(
    api: CheckedApi, wallet: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    key, body = uuid4().hex, _hold(wallet, "1.00")
    made = await api.submit({**body, **first}, key=key, wait=None)
    again = await api.submit({**body, **second}, key=key, wait=None)
    other = await api.submit({**body, **second, "description": "x"}, key=key, wait=None)

    assert (made.status, again.status, again.json["id"]) == (202, 200, made.json["id"])
    assert (other.status, other.code) == (422, "idempotency_key_reused")
