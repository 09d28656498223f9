"""Operators' pages: what waits, what went wrong, who did what."""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import orjson
from aiohttp import web

from console.api import Answer
from console.pages.view import Route, View
from contracts.scopes import Role as PersonRole
from ledger.words import ReviewState, TransactionStatus, TransactionType

_REFERENCE: Final = "TXN-"
_UUID_DIGITS: Final = 36
STREAM: Final = "/live"
"""Where a page follows the ends of all transactions that one sees."""


async def show_overview(view: View) -> web.StreamResponse:
    """GET /operations."""
    readiness, letters, reviews, recent, seal = await asyncio.gather(
        view.try_to("GET", "/readyz"),
        view.get("/v1/dead-letters/summary", state="open"),
        view.get("/v1/reviews", state="OPEN", limit="10"),
        view.get("/v1/transactions", limit="10"),
        view.try_to("GET", "/v1/seals/latest"),
    )
    return view.show(
        "operations.html",
        readiness=readiness.json or {},
        letters=letters,
        reviews=reviews["items"],
        transactions=recent["items"],
        seal=seal.json if seal.is_well else None,
        figures=view.figures,
        reading=view.figures.now,
        stream=STREAM,
    )


async def read_figures(view: View) -> web.StreamResponse:
    """GET /operations/figures.json: the history of the figures, for charts."""
    # Who somebody is today is the API's to say; the cookie knows it as of the last exchange.
    me = await view.get("/v1/users/me")
    if me["role"] == PersonRole.CUSTOMER:
        raise web.HTTPForbidden(reason="These figures are for operators.")
    return web.Response(body=orjson.dumps(view.figures.to_json()), content_type="application/json")


async def list_transactions(view: View) -> web.StreamResponse:
    """GET /transactions: by whatever names one, or by what they are."""
    query = view.asked("q")
    if query.startswith(_REFERENCE):
        found = await view.get("/v1/transactions", reference=query)
    elif len(query) == _UUID_DIGITS:
        answer = await view.try_to("GET", f"/v1/transactions/{quote(query, safe='')}")
        if answer.is_well:
            return view.go(f"/transactions/{answer.json['id']}")
        found = await view.get("/v1/transactions", wallet_id=query)
    elif query:
        found = await view.get(
            "/v1/transactions", idempotency_key=query, submitter=view.asked("submitter")
        )
    else:
        found = await view.get(
            "/v1/transactions",
            status=view.asked("status"),
            type=view.asked("type"),
            cursor=view.asked("cursor"),
            limit="50",
        )
    return view.show(
        "transactions.html",
        transactions=found["items"],
        next_cursor=found["next_cursor"],
        asked={name: view.asked(name) for name in ("q", "submitter", "status", "type")},
        statuses=[one.value for one in TransactionStatus],
        types=[one.value for one in TransactionType],
        stream=None if query or view.asked("cursor") else STREAM,
    )


async def list_reviews(view: View) -> web.StreamResponse:
    """GET /reviews."""
    return await _reviews(view)


async def decide_review(view: View) -> web.StreamResponse:
    """POST /reviews/{review_id}/{act}."""
    act, review_id = view.path("act"), view.segment("review_id")
    if act not in {"approve", "refuse"}:
        raise web.HTTPNotFound
    form = await view.form()
    answer = await view.try_to(
        "POST", f"/v1/reviews/{review_id}/{act}", json={"reason": form.get("reason", "")}
    )
    return await _reviews(view, answer)


async def list_webhooks(view: View) -> web.StreamResponse:
    """GET /webhooks."""
    page = await view.get("/v1/webhooks", cursor=view.asked("cursor"), limit="50")
    return view.show("webhooks.html", webhooks=page["items"], next_cursor=page["next_cursor"])


async def show_webhook(view: View) -> web.StreamResponse:
    """GET /webhooks/{webhook_id}."""
    path = f"/v1/webhooks/{view.segment('webhook_id')}"
    page = await view.get(f"{path}/deliveries", cursor=view.asked("cursor"), limit="50")
    return view.show(
        "webhook.html",
        webhook=await view.get(path),
        deliveries=page["items"],
        next_cursor=page["next_cursor"],
    )


async def list_audit(view: View) -> web.StreamResponse:
    """GET /audit."""
    asked = {name: view.asked(name) for name in ("actor", "action", "subject")}
    page = await view.get("/v1/audit", cursor=view.asked("cursor"), limit="50", **asked)
    return view.show(
        "audit.html", records=page["items"], next_cursor=page["next_cursor"], asked=asked
    )


async def change_wallet(view: View) -> web.StreamResponse:
    """POST /operations/wallets/{wallet_id}: freeze it, let it go, or close it."""
    wallet_id = view.segment("wallet_id")
    form = await view.form()
    answer = await view.try_to(
        "PATCH", f"/v1/wallets/{wallet_id}", json={"status": form.get("status", "")}
    )
    if not answer.is_well:
        return view.show("refusal.html", status=answer.status, trouble=answer.trouble)
    return view.go(f"/wallets/{wallet_id}")


async def _reviews(view: View, answer: Answer | None = None) -> web.StreamResponse:
    state = view.asked("state") or "OPEN"
    page = await view.get("/v1/reviews", state=state, cursor=view.asked("cursor"), limit="50")
    return view.show(
        "reviews.html",
        reviews=page["items"],
        next_cursor=page["next_cursor"],
        state=state,
        states=[one.value for one in ReviewState],
        **_came_of(answer),
    )


def _came_of(answer: Answer | None) -> dict[str, Any]:
    """Say what came of an act, in the values of a template."""
    if answer is None:
        return {}
    if answer.is_well:
        return {"done": "It is done."}
    return {"status": answer.status, "trouble": answer.trouble}


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/operations", show_overview),
    ("GET", "/operations/figures.json", read_figures),
    ("GET", "/transactions", list_transactions),
    ("GET", "/reviews", list_reviews),
    ("POST", "/reviews/{review_id}/{act}", decide_review),
    ("GET", "/webhooks", list_webhooks),
    ("GET", "/webhooks/{webhook_id}", show_webhook),
    ("GET", "/audit", list_audit),
    ("POST", "/operations/wallets/{wallet_id}", change_wallet),
)
