"""Wallets, and moving money between them."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from console.api import Answer
from console.pages.view import Route, View, begin_of_day
from ledger.words import HoldStatus, TransactionType

WAIT_S: Final = 3
"""How long a page waits for a transaction's end before it shows it as PENDING."""
MOVES: Final = ("transfer", "deposit", "withdrawal")
_FIELDS: Final = ("destination", "amount", "description")


async def show_home(view: View) -> web.StreamResponse:
    """GET /: one's wallets; operators begin with the whole."""
    if view.session is not None and view.session.is_operator:
        return view.go("/operations")
    return await _wallets(view)


async def list_wallets(view: View) -> web.StreamResponse:
    """GET /wallets."""
    return await _wallets(view)


async def create_wallet(view: View) -> web.StreamResponse:
    """POST /wallets."""
    form = await view.form()
    answer = await view.try_to(
        "POST",
        "/v1/wallets",
        json={"currency": form.get("currency", "").upper()},
        headers={"Idempotency-Key": form.get("key", "") or uuid4().hex},
    )
    if answer.is_unsure:
        return view.ask_again(answer, form)
    if not answer.is_well:
        return await _wallets(view, status=answer.status, trouble=answer.trouble)
    return view.go(f"/wallets/{answer.json['id']}")


async def show_wallet(view: View) -> web.StreamResponse:
    """GET /wallets/{wallet_id}."""
    return await _wallet(view)


async def move_money(view: View) -> web.StreamResponse:
    """POST /wallets/{wallet_id}/{move}."""
    wallet_id, move = view.path("wallet_id"), view.path("move")
    if move not in MOVES:
        raise web.HTTPNotFound
    form = await view.form()
    answer = await view.try_to(
        "POST",
        "/v1/transactions",
        json=_transaction(move, wallet_id, form),
        # Sent twice, the form is one transaction.
        headers={"Idempotency-Key": form.get("key", ""), "Prefer": f"wait={WAIT_S}"},
    )
    if answer.is_unsure:
        return view.ask_again(answer, form)
    if not answer.is_well:
        return await _wallet(view, answer=answer, form=form)
    return view.go(f"/transactions/{answer.json['id']}")


async def list_holds(view: View) -> web.StreamResponse:
    """GET /wallets/{wallet_id}/holds."""
    status = view.asked("status") or HoldStatus.OPEN.value
    page = await view.get(
        f"/v1/wallets/{view.segment('wallet_id')}/holds",
        status=status,
        cursor=view.asked("cursor"),
        limit="50",
    )
    return view.show(
        "holds.html",
        wallet=page["wallet"],
        holds=page["items"],
        next_cursor=page["next_cursor"],
        asked=status,
        states=[one.value for one in HoldStatus],
    )


async def show_history(view: View) -> web.StreamResponse:
    """GET /wallets/{wallet_id}/history: entries of some days and a type, between two balances."""
    path = f"/v1/wallets/{view.segment('wallet_id')}"
    asked = {name: view.asked(name) for name in ("from", "to", "type")}
    begin, end = begin_of_day(asked["from"]), begin_of_day(asked["to"], days_later=1)
    wanted = {"from": begin, "to": end, "type": asked["type"], "cursor": view.asked("cursor")}
    wallet, page, before, after = await asyncio.gather(
        view.get(path),
        view.get(f"{path}/entries", limit="50", **wanted),
        view.get(f"{path}/balance", at=begin),
        view.get(f"{path}/balance", at=end),
    )
    return view.show(
        "history.html",
        wallet=wallet,
        entries=page["items"],
        next_cursor=page["next_cursor"],
        asked=asked,
        before=before if begin else None,
        after=after,
        types=[one.value for one in TransactionType],
    )


async def follow_ends(view: View) -> web.StreamResponse:
    """GET /live: the ends of transactions as they come, of one wallet or of all that one sees."""
    return await view.live(wallet_id=view.asked("wallet_id"))


def _transaction(move: str, wallet_id: str, form: Mapping[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": move,
        "amount": form.get("amount", ""),
        "currency": form.get("currency", ""),
    }
    if form.get("description"):
        body["description"] = form["description"]
    body["destination_wallet_id" if move == "deposit" else "source_wallet_id"] = wallet_id
    if move == "transfer":
        body["destination_wallet_id"] = form.get("destination", "")
    return body


async def _wallets(
    view: View, *, status: int = 200, trouble: str | None = None
) -> web.StreamResponse:
    page = await view.get(
        "/v1/wallets", cursor=view.asked("cursor"), owner_id=view.asked("owner_id"), limit="50"
    )
    return view.show(
        "wallets.html",
        status=status,
        trouble=trouble,
        wallets=page["items"],
        next_cursor=page["next_cursor"],
        key=uuid4().hex,
        stream=None if view.asked("cursor") or view.asked("owner_id") else "/live",
    )


async def _wallet(
    view: View, *, answer: Answer | None = None, form: Any = None
) -> web.StreamResponse:
    path = f"/v1/wallets/{view.segment('wallet_id')}"
    wallet, entries, holds, some = await asyncio.gather(
        view.get(path),
        view.get(f"{path}/entries", cursor=view.asked("cursor"), limit="20"),
        view.get(f"{path}/holds", status="OPEN", limit="20"),
        view.get("/v1/wallets", limit="50"),
    )
    others = some["items"]
    return view.show(
        "wallet.html",
        status=200 if answer is None else answer.status,
        trouble=None if answer is None else answer.trouble,
        wallet=wallet,
        entries=entries["items"],
        next_cursor=entries["next_cursor"],
        holds=holds["items"],
        others=[
            one
            for one in others
            if one["id"] != wallet["id"] and one["currency"] == wallet["currency"]
        ],
        form={name: (form or {}).get(name, "") for name in _FIELDS},
        key=uuid4().hex,
        stream=None if view.asked("cursor") else f"/live?wallet_id={wallet['id']}",
    )


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/", show_home),
    ("GET", "/wallets", list_wallets),
    ("POST", "/wallets", create_wallet),
    ("GET", "/wallets/{wallet_id}", show_wallet),
    ("POST", "/wallets/{wallet_id}/{move}", move_money),
    ("GET", "/wallets/{wallet_id}/holds", list_holds),
    ("GET", "/wallets/{wallet_id}/history", show_history),
    ("GET", "/live", follow_ends),
)
