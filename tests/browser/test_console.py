"""Every page of the console in Chromium: accessible, and without a violation of its own policy.

In light and dark, narrow and wide. With ACKLEDGER_PICTURES=<folder> it takes their pictures.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Browser, Page, async_playwright

from contracts.scopes import Role as PersonRole
from runtime.postgres.pool import connect
from tests.integration.console.browsing import PASSWORD, person
from tests.integration.console.conftest import doors
from tests.integration.dead_letters.letters import store
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.webhooks.calls import make_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.support import deposit, transfer

__all__ = ["doors"]

_AXE: Final = Path(__file__).resolve().parents[2] / ".local/axe/package/axe.min.js"
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZES: Final = {"wide": (1280, 900), "narrow": (360, 740)}
_SEEN: Final = ("light", "dark")


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(_ARGUMENTS)
        )
        yield opened
        await opened.close()


def _complaints_of(page: Page) -> list[str]:
    """Return a list to which the browser's errors about a page are added as they come."""
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


async def _log_in(page: Page, doors: CheckedDoors, role: PersonRole) -> None:
    await page.goto(f"{doors.system.console_url}/login")
    # By keyboard alone: the first stop is the way past the navigation.
    await page.get_by_label("E-mail").focus()
    await page.keyboard.type(await person(doors, role))
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(lambda url: not url.endswith("/login"))


async def _look_at(page: Page, path: str, name: str) -> None:
    """Open a page in every guise, and let axe-core judge it."""
    for scheme in _SEEN:
        await page.emulate_media(color_scheme=scheme)
        for size, (width, height) in _SIZES.items():
            await page.set_viewport_size({"width": width, "height": height})
            await page.goto(path)
            await _judge(page, f"{name}-{scheme}-{size}")


async def _judge(page: Page, name: str) -> None:
    """Let axe-core judge what a page shows now, and see that it is not too wide."""
    found: dict[str, Any] = await page.evaluate(
        f"{_AXE.read_text()}; axe.run(document, {{resultTypes: ['violations']}})"
    )
    told = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
    assert told == [], name
    fits: bool = await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert fits, f"{name} is wider than its window"
    folder = os.environ.get("ACKLEDGER_PICTURES")
    if folder:
        await page.screenshot(path=f"{folder}/{name}.png")


async def test_every_page_is_accessible_and_keeps_its_policy(
    browser: Browser, doors: CheckedDoors
) -> None:
    url = doors.system.console_url
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    wallets = [await doors.api.create_wallet("EUR") for _ in range(2)]
    await doors.api.submit({**deposit(wallets[0], "1250.00", "EUR"), "description": "salary"})
    paid = await doors.api.submit(
        {**transfer(wallets[0], wallets[1], "80.50", "EUR"), "description": "rent of a bicycle"}
    )
    await doors.api.submit(transfer(wallets[1], wallets[0], "900.00", "EUR"))
    await doors.upstream.publish(b"no JSON")
    for path in ("/login", "/register", "/confirm", "/forgot", "/reset"):
        await _look_at(page, f"{url}{path}", path[1:])
    await _log_in(page, doors, PersonRole.ADMIN)
    pages = {
        "overview": "/operations",
        "transactions": "/transactions",
        "transaction": f"/transactions/{paid.json['id']}",
        "wallets": "/wallets",
        "wallet": f"/wallets/{wallets[0]}",
        "receipt": f"/transactions/{paid.json['id']}/receipt",
        "history": f"/wallets/{wallets[0]}/history",
        "holds": f"/wallets/{wallets[0]}/holds",
        "dead-letters": "/dead-letters",
        "integrity": "/integrity",
        "search": "/transactions?metadata=order:4711",
        "reviews": "/reviews",
        "webhooks": "/webhooks",
        "audit": "/audit",
        "account": "/account",
        "refusal": "/nowhere",
    }
    for name, path in pages.items():
        await _look_at(page, f"{url}{path}", name)
    await context.close()
    # What is not found says so in the console, too.
    assert [one for one in complaints if "404" not in one] == []


async def test_a_customer_s_first_wallet_without_scripts(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await _log_in(page, doors, PersonRole.CUSTOMER)
    await page.get_by_label("Currency").fill("eur")
    await page.get_by_role("button", name="Make it").click()
    await page.get_by_text("Pay in", exact=True).first.click()
    await page.locator("#d-amount").fill("12.00")
    await page.get_by_role("button", name="Pay in").click()
    assert await page.get_by_text("COMPLETED").first.is_visible()
    await context.close()


async def test_what_is_pending_is_shown_so_and_its_end_comes_by_itself(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    await _log_in(page, doors, PersonRole.ADMIN)
    wallet = await doors.api.create_wallet("EUR")
    await asyncio.to_thread(doors.system.kill, "processor")
    try:
        paid = await doors.api.submit(deposit(wallet, "5.00", "EUR"))
        path = f"{doors.system.console_url}/transactions/{paid.json['id']}"
        await _look_at(page, path, "pending")
        await page.get_by_text("Accepted, and not posted yet").wait_for()
    finally:
        await asyncio.to_thread(doors.system.restart, "processor")
    await page.get_by_role("status").get_by_text("It is COMPLETED.").wait_for()
    assert await page.locator("h1").inner_text() == "Deposit COMPLETED"
    assert page.url == path
    await context.close()
    assert complaints == []


async def test_a_verification_ends_by_itself_and_lists_what_it_found(
    browser: Browser, doors: CheckedDoors
) -> None:
    wallet = await doors.api.create_wallet("EUR")
    await doors.api.deposit(wallet, "3.00", "EUR")
    books = await connect(doors.database_url, name="test")
    change = "UPDATE wallets SET balance = balance + $2 WHERE id = $1"
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    await _log_in(page, doors, PersonRole.OPERATOR)
    address = f"{doors.system.console_url}/integrity"
    await page.goto(address)
    await books.execute(change, UUID(wallet), 1)
    await page.get_by_role("button", name="Verify the whole book").click()
    await _judge(page, "verification")
    await page.get_by_role("status").get_by_text("It has ended.").wait_for()
    await books.execute(change, UUID(wallet), -1)
    await books.close()
    await page.get_by_role("cell", name=f"wallet {wallet}").wait_for()
    assert page.url == address
    await _look_at(page, address, "findings")
    await context.close()
    assert complaints == []


async def test_a_transaction_s_whole_life_is_on_its_page(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    wallet = await doors.api.create_wallet("EUR")
    async with Receiver.open() as receiver:
        receiver.statuses["/shop"] = [503]
        await make_webhook(doors.api, f"{receiver.url}/shop", wallet_ids=[wallet])
        body = {**deposit(wallet, "19.90", "EUR"), "metadata": {"order": "4711"}}
        paid = (await doors.api.submit(body)).json
        connection = await connect(doors.database_url, name="test")
        letter = await store(
            connection, b"{}", reason="quarantined", transaction_id=UUID(paid["id"])
        )
        await connection.execute(
            "UPDATE dead_letters SET replayed_at = now() WHERE id = $1", letter
        )
        await connection.close()
        await receiver.next("/shop")
        await _log_in(page, doors, PersonRole.OPERATOR)
        path = f"{doors.system.console_url}/transactions/{paid['id']}"
        await _look_at(page, path, "life")
        await (
            page.get_by_role("link", name="quarantined")
            .or_(page.get_by_role("cell", name="quarantined"))
            .first.wait_for()
        )
        await page.get_by_role("button", name="Send again: transaction.completed").click()
        await page.get_by_role("status").get_by_text("It is sent again.").wait_for()
        await receiver.next("/shop")
    await page.goto(f"{doors.system.console_url}/transactions?metadata=order:4711")
    await page.get_by_role("link", name=paid["reference"]).click()
    await page.wait_for_url(path)
    await context.close()
    assert complaints == []


async def test_the_way_out_stands_in_one_line_on_a_narrow_page(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context(viewport={"width": 360, "height": 740})
    page = await context.new_page()
    await _log_in(page, doors, PersonRole.CUSTOMER)
    box = await page.get_by_role("button", name="Log out").bounding_box()
    assert box is not None
    assert box["height"] < 60
    await context.close()


async def test_dark_can_be_chosen_where_the_system_is_light(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context(color_scheme="light")
    page = await context.new_page()
    await _log_in(page, doors, PersonRole.CUSTOMER)
    await page.goto(f"{doors.system.console_url}/account")
    await page.get_by_role("button", name="Dark", exact=True).click()
    await page.get_by_role("button", name="Dark", exact=True, pressed=True).wait_for()
    ground: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(18, 23, 21)"
    await context.close()


async def _letters(doors: CheckedDoors, count: int, *, submitter: str) -> None:
    connection = await connect(doors.database_url, name="test")
    body = b'{"version": 1, "type": "transfer", "amount": "1,00", "colour": "red"}'
    for number in range(count):
        await store(connection, body, submitter=submitter, detail=f"line {number}: no good")
    await connection.close()


async def test_a_group_is_tried_discarded_to_its_end_by_itself_and_each_page_is_accessible(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    shop = f"shop-{uuid4().hex}"
    await _letters(doors, 230, submitter=shop)
    await _log_in(page, doors, PersonRole.OPERATOR)
    workbench = f"{doors.system.console_url}/dead-letters?submitter={shop}"
    await _look_at(page, workbench, "workbench")
    await page.locator("tbody th a").first.click()
    await page.get_by_role("heading", name="Beside the contract").wait_for()
    await _judge(page, "dead-letter")
    await page.goto(workbench)
    await page.get_by_role("button", name="Discard all 230").click()
    await _judge(page, "trial")
    await page.get_by_label("Why").fill("known and mended")
    await page.get_by_role("button", name="Discard all 230 for good").click()
    # Three steps of a hundred, without a hand.
    await page.get_by_role("heading", name="Discarding: 230 of 230").wait_for()
    await page.get_by_role("status").get_by_text("All of them were looked at.").wait_for()
    await _judge(page, "work")
    await page.goto(workbench)
    assert await page.get_by_text("No message waits for a decision.").is_visible()
    await context.close()
    assert complaints == []


async def test_work_on_many_is_stopped_by_leaving_the_page_and_goes_on_by_hand_without_scripts(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    shop = f"shop-{uuid4().hex}"
    await _letters(doors, 30, submitter=shop)
    await _log_in(page, doors, PersonRole.OPERATOR)
    await page.goto(f"{doors.system.console_url}/dead-letters?submitter={shop}")
    for box in await page.get_by_role("checkbox").all():
        await box.check()
    await page.get_by_role("button", name="Discard the selected").click()
    await page.get_by_label("Why").fill("known and mended")
    await page.get_by_role("button", name="Discard all 30 for good").click()
    await page.get_by_role("heading", name="Discarding: 25 of 30").wait_for()
    await page.get_by_role("link", name="Stop here").click()
    await page.goto(f"{doors.system.console_url}/dead-letters?submitter={shop}")
    assert await page.get_by_role("checkbox").count() == 5
    await context.close()


async def test_one_box_selects_all_of_the_page(browser: Browser, doors: CheckedDoors) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    shop = f"shop-{uuid4().hex}"
    await _letters(doors, 3, submitter=shop)
    await _log_in(page, doors, PersonRole.OPERATOR)
    await page.goto(f"{doors.system.console_url}/dead-letters?submitter={shop}")
    await page.get_by_role("checkbox", name="Select all on this page").check()
    assert await page.locator("td.box input:checked").count() == 3
    await context.close()


async def test_money_that_comes_is_told_on_the_wallet_s_page_and_its_figures_change(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    await _log_in(page, doors, PersonRole.CUSTOMER)
    await page.get_by_label("Currency").fill("eur")
    await page.get_by_role("button", name="Make it").click()
    await page.wait_for_url("**/wallets/*-*")
    wallet = page.url.rpartition("/")[2]
    await page.evaluate("window.isTheSamePage = true")
    await doors.api.submit({**deposit(wallet, "33.00", "EUR"), "description": "a gift"})
    await page.get_by_text("Deposit of 33.00 EUR COMPLETED").wait_for()
    await page.get_by_role("cell", name="a gift").wait_for()
    await page.get_by_role("heading", name="33.00 EUR available").wait_for()
    assert await page.evaluate("window.isTheSamePage") is True
    await _judge(page, "told")
    await page.get_by_role("button", name="Pause updates").click()
    await page.get_by_role("button", name="Pause updates", pressed=True).wait_for()
    await doors.api.deposit(wallet, "1.00", "EUR")
    assert not await page.get_by_text("34.00 EUR").is_visible()
    await page.get_by_role("button", name="Pause updates").click()
    await page.get_by_role("heading", name="34.00 EUR available").wait_for()
    await context.close()
    assert complaints == []


async def test_the_overview_draws_its_figures_and_tells_them_in_a_table(
    browser: Browser, doors: CheckedDoors
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    complaints = _complaints_of(page)
    await _log_in(page, doors, PersonRole.AUDITOR)
    await page.locator("figure canvas").nth(3).wait_for()
    await page.reload()
    await page.get_by_text("The figures as a table").click()
    await page.get_by_role("columnheader", name="Oldest, s").wait_for()
    await page.emulate_media(color_scheme="dark")
    await page.locator("figure canvas").nth(3).wait_for()
    await _judge(page, "charts")
    await context.close()
    assert complaints == []
