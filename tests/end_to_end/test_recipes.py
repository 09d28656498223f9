"""Every recipe of docs/recipes.md is sent as it is printed, and the books are as it says."""

import json
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest

from ledger.words import FINAL_STATUSES
from runtime.postgres.pool import connect
from tests.conftest import Doors
from tests.support import Api, eventually
from verification.verify import verify

_PAGE: Final = Path(__file__).parents[2] / "docs" / "recipes.md"
_RECIPE: Final = re.compile(r"^## (.+)\n((?:(?!^## ).*\n)*)", re.MULTILINE)
_REQUEST: Final = re.compile(
    r"^`POST (?P<path>\S+)`\n```json\n(?P<body>.*?)^```\n"
    r"Ends as (?P<ends>[^;\n]+?)(?:; its id is `\$(?P<name>\w+)`)?\.$",
    re.MULTILINE | re.DOTALL,
)
_ROW: Final = re.compile(
    r"^\| `\$(?P<wallet>\w+)` \| (?P<kind>\w+) \| (?P<currency>\w+) "
    r"\| (?P<before>\S+) \| (?P<after>\S+) \| (?P<held>\S+) \|$",
    re.MULTILINE,
)
_REVERSE: Final = re.compile(r"/v1/transactions/(?P<id>[^/]+)/reverse")


@dataclass(frozen=True)
class Recipe:
    """Requests in their order, and a row for each wallet."""

    title: str
    requests: list[re.Match[str]]
    rows: list[re.Match[str]]


Send: TypeAlias = Callable[[Doors, re.Match[str], dict[str, str]], Coroutine[Any, Any, list[str]]]


def recipes() -> Iterator[Recipe]:
    """Yield what stands on the page, and hold that none of it is passed over."""
    for title, text in _RECIPE.findall(_PAGE.read_text(encoding="utf-8")):
        recipe = Recipe(title, list(_REQUEST.finditer(text)), list(_ROW.finditer(text)))
        assert len(recipe.requests) == text.count("```json") > 0, title
        assert len(recipe.rows) == text.count("| `$") > 0, title
        yield recipe


async def _fund(api: Api, row: re.Match[str]) -> str:
    wallet = await api.create_wallet(row["currency"], kind=row["kind"])
    if row["before"].strip("0."):
        await api.deposit(wallet, row["before"], row["currency"])
    return wallet


async def _final(api: Api, transaction_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        shown: dict[str, Any] = (await api.get(f"/v1/transactions/{transaction_id}")).json
        return shown if shown["status"] in FINAL_STATUSES else None

    return await eventually(look, what=f"{transaction_id} ends")


async def _send(doors: Doors, request: re.Match[str], names: dict[str, str]) -> list[str]:
    """Send one request over HTTP; return the ids of its transactions."""
    answer = await doors.api.call(
        "POST",
        Template(request["path"]).substitute(names),
        json=json.loads(Template(request["body"]).substitute(names)),
        headers={} if "/batch" in request["path"] else {"Idempotency-Key": uuid4().hex},
    )
    assert answer.status == 202, answer.body
    items = answer.json.get("items")
    return [item["transaction"]["id"] for item in items] if items else [answer.json["id"]]


async def _publish(doors: Doors, request: re.Match[str], names: dict[str, str]) -> list[str]:
    """Send one request over AMQP, as the page says; return the ids of its transactions."""
    body = json.loads(Template(request["body"]).substitute(names))
    reversed_one = _REVERSE.fullmatch(Template(request["path"]).substitute(names))
    if reversed_one is not None:
        body |= {"type": "reversal", "reverses": reversed_one["id"]}
    transactions = body.get("transactions", [body])
    for one in transactions:
        # Both doors are one submitter's, so the page's own keys are used already.
        one["idempotency_key"] = uuid4().hex
    await doors.upstream.publish({"version": 1, **body})
    return [await _id_of(doors.api, one["idempotency_key"]) for one in transactions]


async def _id_of(api: Api, key: str) -> str:
    async def look() -> str | None:
        items = (await api.get("/v1/transactions", idempotency_key=key)).json["items"]
        return items[0]["id"] if items else None

    return await eventually(look, what=f"{key} is recorded")


def _cases() -> Iterator[Any]:
    """Yield each recipe with each door that takes it: force is for HTTP alone."""
    for recipe in recipes():
        yield pytest.param(recipe, _send, id=f"{recipe.title} over HTTP")
        if not any('"force"' in request["body"] for request in recipe.requests):
            yield pytest.param(recipe, _publish, id=f"{recipe.title} over AMQP")


@pytest.mark.parametrize(("recipe", "send"), list(_cases()))
async def test_a_recipe_does_what_its_page_says(doors: Doors, recipe: Recipe, send: Send) -> None:
    api = doors.api
    names = {row["wallet"]: await _fund(api, row) for row in recipe.rows}
    for request in recipe.requests:
        names["first_of_the_month"] = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        ids = await send(doors, request, names)
        ended = [await _final(api, one) for one in ids]
        texts = [
            f"FAILED {one['failure']['code']}" if one["failure"] else one["status"] for one in ended
        ]
        assert texts == request["ends"].split(", "), request["body"]
        if request["name"]:
            names[request["name"]] = ids[0]

    for row in recipe.rows:
        wallet = (await api.get(f"/v1/wallets/{names[row['wallet']]}")).json
        assert (wallet["balance"], wallet["held"]) == (row["after"], row["held"]), row["wallet"]
    connection = await connect(doors.database_url, name="test")
    assert (await verify(connection, pending_max_s=60)).clean
    await connection.close()


async def test_the_chargeback_leaves_its_deposit_reversed(doors: Doors) -> None:
    api = doors.api
    wallet = await api.create_wallet()
    paid_in = (await api.deposit(wallet, "40.00")).json["id"]

    await api.call(
        "POST",
        f"/v1/transactions/{paid_in}/reverse",
        json={"force": True},
        headers={"Idempotency-Key": uuid4().hex, "Prefer": "wait=20"},
    )

    assert (await _final(api, paid_in))["status"] == "REVERSED"
