"""Transactions: found by whatever names them, and each with all that has happened to it."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from console.api import Answer, ApiError
from console.pages.view import Route, View, begin_of_day
from contracts.dead_letters import DeadLetterState
from contracts.messages import EVENT_REASONS
from contracts.operations.transactions import METADATA_WINDOW
from ledger.words import HoldStatus, TransactionStatus, TransactionType

STREAM: Final = "/live"
"""Where a page follows the ends of all transactions that one sees."""
LOOK_S: Final = 10
"""How long one more look at a transaction waits for its end: well below the calls' bound."""
LOOKS_MAX: Final = 30
"""Looks that a page takes by itself; then it waits for somebody to ask."""
LETTERS_SHOWN: Final = 20
WEBHOOKS_SHOWN: Final = 10
"""Each is one more call of the API, which counts against the person's limit."""
DELIVERIES_SHOWN: Final = 10
"""Of each webhook: its events of one transaction."""
_REFERENCE: Final = "TXN-"
_UUID_DIGITS: Final = 36
# A month before and after these years is in the calendar.
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998
_FILTERS: Final = ("status", "type", "metadata")

Json = dict[str, Any]


async def list_transactions(view: View) -> web.StreamResponse:
    """GET /transactions: by whatever names one, or by what they are."""
    query = view.asked("q")
    if len(query) == _UUID_DIGITS:
        named = await view.try_to("GET", f"/v1/transactions/{quote(query, safe='')}")
        if named.is_well:
            return view.go(f"/transactions/{named.json['id']}")
    asked = {name: view.asked(name) for name in ("q", "submitter", *_FILTERS, "from", "to")}
    if asked["metadata"] and not query:
        asked |= _month(asked)
    answer = await view.try_to("GET", "/v1/transactions", query=_wanted(view, asked))
    found = answer.json if answer.is_well else {"items": [], "next_cursor": None}
    return view.show(
        "transactions.html",
        status=answer.status,
        trouble=None if answer.is_well else answer.trouble,
        transactions=found["items"],
        next_cursor=found["next_cursor"],
        asked=asked,
        statuses=[one.value for one in TransactionStatus],
        types=[one.value for one in TransactionType],
        stream=None if query or asked["metadata"] or view.asked("cursor") else STREAM,
    )


async def show_transaction(view: View) -> web.StreamResponse:
    """GET /transactions/{transaction_id}: what became of it, or how far it is."""
    look = view.look
    async with view.patience(LOOK_S if look else 0) as wait_s:
        return await _transaction(view, look=look, wait_s=wait_s)


async def show_receipt(view: View) -> web.StreamResponse:
    """GET /transactions/{transaction_id}/receipt: to be printed."""
    transaction = await view.get(f"/v1/transactions/{view.segment('transaction_id')}")
    return view.show("receipt.html", transaction=transaction)


async def resend_delivery(view: View) -> web.StreamResponse:
    """POST /transactions/{…}/webhooks/{webhook_id}/{delivery_id}: send an event again."""
    answer = await view.try_to(
        "POST",
        f"/v1/webhooks/{view.segment('webhook_id')}"
        f"/deliveries/{view.segment('delivery_id')}/resend",
    )
    return await _transaction(view, resent=answer)


async def _transaction(
    view: View, *, look: int = 0, wait_s: int = 0, resent: Answer | None = None
) -> web.StreamResponse:
    answer = await view.try_to(
        "GET",
        f"/v1/transactions/{view.segment('transaction_id')}",
        headers={"Prefer": f"wait={wait_s}"},
    )
    if not answer.is_well:
        raise ApiError(answer)
    transaction = answer.json
    is_open = transaction["status"] == TransactionStatus.PENDING
    said = f"It is {transaction['status']}." if look and not is_open else None
    is_refused = resent is not None and not resent.is_well
    return view.show(
        "transaction.html",
        status=resent.status if resent is not None and is_refused else 200,
        transaction=transaction,
        look=look + 1,
        is_live=is_open and look < LOOKS_MAX,
        done="It is sent again." if resent is not None and resent.is_well else said,
        trouble=resent.trouble if resent is not None and is_refused else None,
        events=_events_of(transaction),
        **await _life(view, transaction["id"]),
    )


async def _life(view: View, transaction_id: str) -> Json:
    """Return what operators see beside the transaction itself, and why some of it is missing."""
    life: Json = {
        "processing": None,
        "trace_link": None,
        "letters": [],
        "are_events_set_aside": False,
        "webhooks": [],
        "are_more_webhooks": False,
        "is_operators": False,
        "missing": None,
    }
    if view.session is None or not view.session.is_operator:
        return life
    about = {"transaction_id": transaction_id}
    processing, letters, webhooks = await asyncio.gather(
        view.try_to("GET", f"/v1/transactions/{transaction_id}/processing"),
        view.try_to("GET", "/v1/dead-letters", query={**about, "limit": str(LETTERS_SHOWN)}),
        view.try_to("GET", "/v1/webhooks", query={**about, "limit": str(WEBHOOKS_SHOWN)}),
    )
    told = _items(webhooks)
    deliveries = await asyncio.gather(
        *(
            view.try_to(
                "GET",
                f"/v1/webhooks/{one['id']}/deliveries",
                query={**about, "limit": str(DELIVERIES_SHOWN)},
            )
            for one in told
        )
    )
    refused = [one for one in (processing, letters, webhooks, *deliveries) if not one.is_well]
    life["is_operators"] = True
    life["missing"] = refused[0].trouble if refused else None
    life["letters"] = _items(letters)
    life["are_events_set_aside"] = _are_events_set_aside(life["letters"])
    life["webhooks"] = list(zip(told, map(_items, deliveries), strict=True))
    life["are_more_webhooks"] = webhooks.is_well and webhooks.json["next_cursor"] is not None
    if processing.is_well:
        life["processing"] = processing.json
        life["trace_link"] = view.trace_link(processing.json)
    return life


def _items(answer: Answer) -> list[Json]:
    return list(answer.json["items"]) if answer.is_well else []


def _are_events_set_aside(letters: Sequence[Json]) -> bool:
    """Whether an event waits as a dead letter for an operator."""
    return any(
        one["reason"] in EVENT_REASONS and one["state"] == DeadLetterState.OPEN for one in letters
    )


def _events_of(transaction: Json) -> list[str]:
    """Return the types of the events that its state has led to; pure."""
    status = transaction["status"]
    events = {
        TransactionStatus.COMPLETED: ["completed"],
        TransactionStatus.REVERSED: ["completed", "reversed"],
        TransactionStatus.FAILED: ["failed"],
        TransactionStatus.QUARANTINED: ["quarantined"],
    }.get(status, [])
    hold = transaction["hold"]
    if hold is not None and hold["status"] == HoldStatus.EXPIRED:
        events = [*events, "hold_expired"]
    return [f"transaction.{one}" for one in events]


def _wanted(view: View, asked: Mapping[str, str]) -> dict[str, str]:
    """Return the query of the API's list."""
    query = asked["q"]
    wanted = {
        **{name: asked[name] for name in _FILTERS},
        "from": begin_of_day(asked["from"]),
        "to": begin_of_day(asked["to"], days_later=1),
        "cursor": view.asked("cursor"),
        "limit": "50",
    }
    if query.startswith(_REFERENCE):
        wanted["reference"] = query
    elif len(query) == _UUID_DIGITS:
        wanted["wallet_id"] = query
    elif query:
        wanted |= {"idempotency_key": query, "submitter": asked["submitter"]}
    return {name: value for name, value in wanted.items() if value}


def _month(asked: Mapping[str, str]) -> dict[str, str]:
    """Return the days to search, for a search by metadata that names none or one of them."""
    days = METADATA_WINDOW - timedelta(days=1)
    start, end = _day(asked["from"]), _day(asked["to"])
    today = datetime.now(tz=UTC).date()
    if end is None:
        end = today if start is None else min(today, start + days)
    return {"from": (start or end - days).isoformat(), "to": end.isoformat()}


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if _FIRST_YEAR <= found.year <= _LAST_YEAR else None


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/transactions", list_transactions),
    ("GET", "/transactions/{transaction_id}", show_transaction),
    ("GET", "/transactions/{transaction_id}/receipt", show_receipt),
    (
        "POST",
        "/transactions/{transaction_id}/webhooks/{webhook_id}/{delivery_id}",
        resend_delivery,
    ),
)
