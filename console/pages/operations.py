"""Operators' pages: what waits, what went wrong, who did what."""

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web

from console.api import Answer
from console.pages.transactions import STREAM
from console.pages.view import Route, View
from contracts.representations.trail import VerificationState
from contracts.scopes import Role as PersonRole
from ledger.words import ReviewState

VERIFICATION_LOOKS_MAX: Final = 300
"""Looks, of two seconds each, that a page takes at a verification by itself: ten minutes."""
_OPEN_STATES: Final = frozenset({VerificationState.REQUESTED, VerificationState.RUNNING})


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


async def show_integrity(view: View) -> web.StreamResponse:
    """GET /integrity: how far the books are checked, what was found, a verification under way."""
    return await _integrity(view)


async def request_verification(view: View) -> web.StreamResponse:
    """POST /integrity: have the whole book verified."""
    return await _integrity(view, await view.try_to("POST", "/v1/integrity/verifications"))


async def _integrity(view: View, answer: Answer | None = None) -> web.StreamResponse:
    state, page, seal = await asyncio.gather(
        view.get("/v1/integrity"),
        view.get("/v1/integrity/findings", cursor=view.asked("cursor"), limit="50"),
        view.try_to("GET", "/v1/seals/latest"),
    )
    verification, look = state["verification"], view.look
    is_open = verification is not None and verification["state"] in _OPEN_STATES
    is_refused = answer is not None and not answer.is_well
    ended = "It has ended." if look and not is_open else None
    return view.show(
        "integrity.html",
        status=answer.status if answer is not None and is_refused else 200,
        integrity=state,
        verification=verification,
        is_open=is_open,
        findings=page["items"],
        next_cursor=page["next_cursor"],
        seal=seal.json if seal.is_well else None,
        look=look + 1,
        is_live=is_open and look < VERIFICATION_LOOKS_MAX,
        done="It is asked for." if answer is not None and answer.is_well else ended,
        trouble=answer.trouble if answer is not None and is_refused else None,
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
    ("GET", "/reviews", list_reviews),
    ("POST", "/reviews/{review_id}/{act}", decide_review),
    ("GET", "/webhooks", list_webhooks),
    ("GET", "/webhooks/{webhook_id}", show_webhook),
    ("GET", "/integrity", show_integrity),
    ("POST", "/integrity", request_verification),
    ("GET", "/audit", list_audit),
    ("POST", "/operations/wallets/{wallet_id}", change_wallet),
)
