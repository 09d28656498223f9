"""The workbench without JavaScript: groups, differences, trials, and acts on many in steps."""

import asyncio
import re
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts.scopes import Role as PersonRole
from runtime.postgres.pool import Connection
from tests.integration.console.browsing import HOSTILE, Browser, browsing, logged_in
from tests.integration.dead_letters.letters import requested, store
from tests.integration.ingress.serving import CheckedDoors
from tests.support import deposit, eventually


def _fields(page: Browser, action: str) -> dict[str, Any]:
    """Return the hidden fields of the page's last form to a path."""
    form = page.text.rpartition(f'action="{action}"')[2].partition("</form>")[0]
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form):
        found[name] = [*found.get(name, []), value]
    return found


async def _states(books: Connection, submitter: str) -> list[str]:
    rows = await books.fetch(
        "SELECT dead_letter_state(replayed_at, discarded_at) AS state FROM dead_letters"
        " WHERE submitter = $1 ORDER BY id",
        submitter,
    )
    return [row["state"] for row in rows]


async def test_those_that_say_the_same_are_one_group_that_is_tried_and_then_discarded(
    books: Connection, operator: Browser
) -> None:
    shop = f"shop-{uuid4().hex}"
    for number in range(3):
        await store(books, b"", submitter=shop, detail=f"line {number}: {HOSTILE}")
    await store(books, b"", submitter=shop, detail="something else")

    page = await operator.open(f"/dead-letters?submitter={shop}")
    assert HOSTILE not in page
    assert re.findall(r'class="count">(\d+)<', page) == ["3", "1"]
    largest = page.partition('class="card wide"')[2].partition("</form>")[0]
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', largest))

    await operator.send("/dead-letters/check", act="discard", **fields)
    assert operator.text.count('class="status status-discarded"') == 1 + 3
    assert await _states(books, shop) == ["open"] * 4
    late = await store(books, b"", submitter=shop, detail="line 9: after the trial")

    work = _fields(operator, "/dead-letters/work")
    await operator.send("/dead-letters/work", **work, note="known and mended")
    assert "Discarding: 3 of 3" in operator.text
    assert await _states(books, shop) == ["discarded"] * 3 + ["open"] * 2
    notes = await books.fetch(
        "SELECT actor, detail->>'note' AS note FROM audit_log WHERE subject IN"
        " (SELECT 'dead_letter:' || id FROM dead_letters WHERE submitter = $1 AND id <> $2)",
        shop,
        late,
    )
    assert {row["note"] for row in notes} == {"known and mended"}
    assert all(row["actor"].startswith("user:") for row in notes)


async def test_the_selected_are_replayed_in_steps_and_the_refused_stay_open(
    doors: CheckedDoors, books: Connection, operator: Browser
) -> None:
    shop, wallet = f"shop-{uuid4().hex}", await doors.api.create_wallet()
    ids = [str(await store(books, b"no JSON", submitter=shop))]
    for number in range(29):
        body = requested({"idempotency_key": f"{shop}-{number}", **deposit(wallet, "1.00")})
        ids.append(str(await store(books, body, submitter=shop)))

    await operator.send("/dead-letters/check", act="replay", id=ids)
    assert "status-refused" in operator.text
    assert await _states(books, shop) == ["open"] * 30
    await operator.send("/dead-letters/work", **_fields(operator, "/dead-letters/work"))
    assert "Replaying: 25 of 30" in operator.text
    # A step that comes twice, as from an impatient hand, changes nothing more.
    rest = _fields(operator, "/dead-letters/work")
    await operator.send("/dead-letters/work", **rest)
    assert "Replaying: 30 of 30" in operator.text
    await operator.send("/dead-letters/work", **rest)

    assert await _states(books, shop) == ["open"] + ["replayed"] * 29

    async def all_posted() -> bool:
        return await doors.api.balance(wallet) == "29.00"

    await eventually(all_posted, what="each is posted once")


async def test_nothing_selected_is_said_and_an_unknown_act_is_none(operator: Browser) -> None:
    await operator.send("/dead-letters/check", act="replay")
    assert operator.status == 400
    assert "Select at least one." in operator.text
    await operator.send("/dead-letters/work", act="replay", scope="group", until="2026-01-01")
    assert operator.status == 400
    await operator.send("/dead-letters/check", act="delete", id=str(uuid4()))
    assert operator.status == 404


async def test_one_that_is_gone_or_ended_before_stops_none_of_the_others(
    books: Connection, operator: Browser
) -> None:
    shop = f"shop-{uuid4().hex}"
    ids = [str(await store(books, b"", submitter=shop)) for _ in range(2)]
    await operator.send("/dead-letters/work", act="discard", id=ids[0], note="x")

    await operator.send("/dead-letters/work", act="discard", id=[str(uuid4()), *ids], note="x")

    assert await _states(books, shop) == ["discarded", "discarded"]
    assert re.findall(r"status-(unchanged|discarded)\">\w+</span> (\d)", operator.text) == [
        ("discarded", "1"),
        ("unchanged", "2"),
    ]


async def test_a_letter_is_shown_beside_the_contract(books: Connection, operator: Browser) -> None:
    body = {
        "version": 1,
        **deposit(str(uuid4()), "1,00"),
        "idempotency_key": "k",
        "colour": HOSTILE,
    }
    del body["currency"]
    letter = await store(books, orjson.dumps(body), reason="invalid_message")

    page = await operator.open(f"/dead-letters/{letter}")

    assert HOSTILE not in page
    assert "<ins>  &#34;currency&#34;: …</ins>" in page
    assert "<del>  &#34;colour&#34;: " in page
    assert "<mark>  &#34;amount&#34;: &#34;1,00&#34;</mark>" in page
    assert re.findall(r'class="id">(/\w+)</th>', page) == ["/amount", "/colour", "/currency"]


@pytest.mark.parametrize("body", [b"\xff\x00", b"no JSON", b"[]", b'{"transaction_ids": []}'])
async def test_whatever_a_message_holds_its_page_opens(
    books: Connection, operator: Browser, body: bytes
) -> None:
    letter = await store(books, body, reason="not_json", submitter=None)
    await operator.open(f"/dead-letters/{letter}")
    assert operator.status == 200


async def test_an_auditor_looks_and_is_offered_no_act(
    doors: CheckedDoors, books: Connection
) -> None:
    letter = str(await store(books, b""))
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.AUDITOR)
        for path in ("/dead-letters", f"/dead-letters/{letter}"):
            await browser.open(path)
            assert browser.status == 200
            assert "/dead-letters/check" not in browser.text
        await browser.send("/dead-letters/work", act="discard", id=letter, note="x")
        assert browser.status == 403


async def test_work_goes_on_where_an_outage_stopped_it(
    doors: CheckedDoors, books: Connection, operator: Browser
) -> None:
    shop = f"shop-{uuid4().hex}"
    ids = [str(await store(books, b"", submitter=shop)) for _ in range(2)]
    await asyncio.to_thread(doors.system.kill, "ingress")
    try:
        await operator.send("/dead-letters/work", act="discard", id=ids, note="x", total="2")
        assert operator.status == 503
    finally:
        await asyncio.to_thread(doors.system.restart, "ingress")
    await operator.send("/dead-letters/work", **_fields(operator, "/dead-letters/work"))
    assert "Discarding: 2 of 2" in operator.text
    assert await _states(books, shop) == ["discarded"] * 2
