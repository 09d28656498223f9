"""The page of a transaction tells its whole life; a search finds it by its metadata."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.scopes import Role as PersonRole
from runtime.postgres.pool import Connection
from tests.integration.console.browsing import Browser, browsing, logged_in
from tests.integration.dead_letters.letters import quarantined_deposit, store
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.webhooks.calls import deliveries_of, make_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.support import deposit, eventually


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with Receiver.open() as opened:
        yield opened


async def _paid(doors: CheckedDoors, wallet: str, **headers: str) -> dict[str, Any]:
    answer = await doors.api.call(
        "POST",
        "/v1/transactions",
        json=deposit(wallet, "1.00", "EUR"),
        headers={"Idempotency-Key": uuid4().hex, "Prefer": "wait=20", **headers},
    )
    return dict(answer.json)


async def test_a_transaction_links_to_its_trace_where_it_is_kept(
    doors: CheckedDoors, operator: Browser
) -> None:
    wallet = await doors.api.create_wallet("EUR")
    for flags, is_linked in (("01", True), ("00", False)):
        trace_id = uuid4().hex
        traceparent = f"00-{trace_id}-{uuid4().hex[:16]}-{flags}"
        paid = await _paid(doors, wallet, traceparent=traceparent, **{"X-Request-Id": "asked-7"})
        await operator.open(f"/transactions/{paid['id']}")

        assert "asked-7" in operator.text
        assert trace_id in operator.text
        link = f'href="https://traces.example/trace/{trace_id}?from=console"'
        assert (link in operator.text) == is_linked


async def test_deliveries_are_shown_and_one_that_failed_is_sent_again(
    doors: CheckedDoors, operator: Browser, receiver: Receiver
) -> None:
    wallet = await doors.api.create_wallet("EUR")
    receiver.statuses["/shop"] = [503]
    hook = await make_webhook(doors.api, f"{receiver.url}/shop", wallet_ids=[wallet])
    paid = await _paid(doors, wallet)
    page = f"/transactions/{paid['id']}"

    async def failed() -> bool:
        return "<td>503</td>" in await operator.open(page)

    await eventually(failed, what="the first attempt is on the page")
    assert f"{receiver.url}/shop" in operator.text
    assert "transaction.completed" in operator.text
    action = re.search(rf'action="({page}/webhooks/{hook["id"]}/[0-9a-f-]{{36}})"', operator.text)
    assert action is not None
    await operator.send(action[1])
    assert "It is sent again." in operator.text

    async def delivered() -> list[Any]:
        return await deliveries_of(doors.api, hook["id"], status="DELIVERED")

    await eventually(delivered, what="it is delivered")
    await operator.open(page)
    assert "<td>204</td>" in operator.text
    await operator.open(f"/webhooks/{hook['id']}")
    assert f'<a href="{page}">transaction.completed</a>' in operator.text
    await operator.send(f"{page}/webhooks/{hook['id']}/{uuid4()}")
    assert operator.status == 404
    assert 'role="alert"' in operator.text
    async with browsing(doors) as auditor:
        await logged_in(auditor, doors, PersonRole.AUDITOR)
        await auditor.open(page)
        assert f"{receiver.url}/shop" in auditor.text
        assert "Send again" not in auditor.text


async def test_what_cannot_be_read_is_said_to_be_missing(
    doors: CheckedDoors, books: Connection, operator: Browser
) -> None:
    wallet = await doors.api.create_wallet("EUR")
    paid = await _paid(doors, wallet)
    # Whoever reads deliveries waits behind this until its time is over.
    blocking = books.transaction()
    await blocking.start()
    await books.execute("LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE")
    try:
        await operator.open(f"/transactions/{paid['id']}")
    finally:
        await blocking.rollback()

    assert operator.status == 200
    assert "COMPLETED" in operator.text
    assert "Not all that is known of it can be shown now: " in operator.text
    assert "No webhook got an event" not in operator.text


async def test_dead_letters_of_a_transaction_are_on_its_page(
    doors: CheckedDoors, books: Connection, operator: Browser
) -> None:
    wallet = await doors.api.create_wallet("USD")
    letter, transaction_id = await quarantined_deposit(books, wallet)
    page = f"/transactions/{transaction_id}"
    await operator.open(page)
    assert f'href="/dead-letters/{letter}"' in operator.text
    assert "transaction.quarantined" in operator.text
    assert "An event could not be told" not in operator.text

    told = await store(books, b"", reason="event_not_sent", transaction_id=UUID(transaction_id))
    await operator.open(page)
    # For a verification it is a finding.
    await books.execute("UPDATE dead_letters SET discarded_at = now() WHERE id = $1", told)
    assert "An event could not be told" in operator.text
    await operator.open(page)
    assert "An event could not be told" not in operator.text


async def test_a_customer_sees_the_transaction_and_nothing_of_operators(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.open("/wallets")
        await browser.send("/wallets", key=browser.hidden("key"), currency="eur")
        wallet = browser.path.rpartition("/")[2]
        paid = await _paid(doors, wallet, **{"X-Request-Id": "private-7"})
        await browser.open(f"/transactions/{paid['id']}")

        assert browser.status == 200
        assert "COMPLETED" in browser.text
        for hidden in ("private-7", "Events and webhooks", "Dead letters</h2>"):
            assert hidden not in browser.text


async def test_a_search_by_metadata_finds_what_has_it(
    doors: CheckedDoors, operator: Browser
) -> None:
    wallet, order = await doors.api.create_wallet("EUR"), uuid4().hex
    body = {**deposit(wallet, "1.00", "EUR"), "metadata": {"order": order}}
    paid = (await doors.api.submit(body)).json
    other = (await doors.api.submit(deposit(wallet, "2.00", "EUR"))).json
    today = datetime.now(tz=UTC).date()
    tomorrow = today + timedelta(days=1)
    for more, is_found in (
        ("", True),
        (f"&q={wallet}", True),
        (f"&from={today}&to={tomorrow}", True),
        (f"&to={today - timedelta(days=1)}", False),
        ("&status=FAILED", False),
        ("&type=deposit", True),
    ):
        await operator.open(f"/transactions?metadata=order:{order}{more}")
        assert operator.status == 200, operator.text
        assert (paid["reference"] in operator.text) == is_found, more
        assert other["reference"] not in operator.text


@pytest.mark.parametrize(
    "query",
    [
        "metadata=order",
        "metadata=order:1&from=2026-01-01&to=2026-11-01",
    ],
)
async def test_a_search_that_the_api_refuses_says_why_and_keeps_the_form(
    operator: Browser, query: str
) -> None:
    await operator.open(f"/transactions?{query}")

    assert operator.status == 400
    assert 'role="alert"' in operator.text
    assert 'name="metadata" type="text" value="order' in operator.text


async def test_days_that_are_none_are_left_out(operator: Browser) -> None:
    for day in ("0001-01-01", "9999-12-31", "yesterday"):
        await operator.open(f"/transactions?metadata=order:{uuid4().hex}&from={day}")
        assert operator.status == 200, day


async def test_a_search_goes_on_over_pages_within_the_same_days(
    doors: CheckedDoors, operator: Browser
) -> None:
    wallet, order = await doors.api.create_wallet("EUR"), uuid4().hex
    body = {**deposit(wallet, "1.00", "EUR"), "metadata": {"order": order}}
    references = {(await doors.api.submit(body)).json["reference"] for _ in range(51)}
    await operator.open(f"/transactions?metadata=order:{order}")
    first = {one for one in references if one in operator.text}
    fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', operator.text))
    assert set(fields) == {"metadata", "from", "to", "cursor"}
    await operator.open("/transactions?" + "&".join(f"{k}={v}" for k, v in fields.items()))
    second = {one for one in references if one in operator.text}

    assert (len(first), len(second)) == (50, 1)
    assert first | second == references
