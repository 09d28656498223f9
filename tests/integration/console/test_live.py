"""Ends of transactions reach the pages that show them, and nobody else's; receipts and history."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import pytest

from console.live import STREAMS_OF_ONE_MAX
from contracts.scopes import Role as PersonRole
from tests.integration.console.browsing import HOSTILE, Browser, browsing, logged_in
from tests.integration.ingress.serving import CheckedDoors
from tests.support import deposit, eventually, transfer

pytestmark = pytest.mark.long

BOUND_S: Final = 20.0


class Follower:
    """A page that follows."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status

    async def next(self) -> dict[str, Any]:
        """Return what is told next."""
        async with asyncio.timeout(BOUND_S):
            while line := await self._response.content.readline():
                if line.startswith(b"data: "):
                    told: dict[str, Any] = orjson.loads(line[6:])
                    return told
        raise AssertionError("the stream has ended")

    async def end(self) -> None:
        """Return when the stream is over."""
        async with asyncio.timeout(BOUND_S):
            await self._response.read()


@asynccontextmanager
async def following(browser: Browser, query: str = "") -> AsyncIterator[Follower]:
    async with browser.session.get(f"{browser.url}/live{query}") as response:
        yield Follower(response)


async def _own_wallet(browser: Browser, doors: CheckedDoors) -> str:
    await logged_in(browser, doors, PersonRole.CUSTOMER)
    await browser.send("/wallets", key=browser.hidden("key"), currency="eur")
    return browser.path.rpartition("/")[2]


async def test_an_end_reaches_its_owner_s_page_and_no_other_customer_s(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as one, browsing(doors) as other:
        wallet = await _own_wallet(one, doors)
        theirs = await _own_wallet(other, doors)
        async with following(one) as seen, following(other, f"?wallet_id={theirs}") as unseen:
            first = await doors.api.submit({**deposit(wallet, "7.00", "EUR")})
            told = await seen.next()
            await doors.api.submit(deposit(theirs, "8.00", "EUR"))
            theirs_told = await unseen.next()

    assert told["count"] == 1
    assert told["transactions"][0]["id"] == first.json["id"]
    assert told["transactions"][0]["status"] == "COMPLETED"
    assert set(told["transactions"][0]) == {
        "id",
        "reference",
        "type",
        "status",
        "amount",
        "currency",
    }
    assert [one["amount"] for one in theirs_told["transactions"]] == ["8.00"]


async def test_another_s_wallet_and_too_many_streams_have_none(doors: CheckedDoors) -> None:
    wallet = await doors.api.create_wallet("EUR")
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        async with following(browser, f"?wallet_id={wallet}") as theirs:
            assert theirs.status == 204
        responses = [
            await browser.session.get(f"{browser.url}/live") for _ in range(STREAMS_OF_ONE_MAX)
        ]
        assert {response.status for response in responses} == {200}
        async with following(browser) as beyond:
            assert beyond.status == 204
        for response in responses:
            response.close()

        async def is_free() -> bool:
            async with following(browser) as again:
                return again.status == 200

        await eventually(is_free, what="pages that went leave their places")


async def test_a_stream_ends_with_its_token_and_the_next_resumes_behind_what_was_told(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        wallet = await _own_wallet(browser, doors)
        async with browser.session.get(f"{browser.url}/live") as response:
            await doors.api.submit(deposit(wallet, "1.00", "EUR"))
            lines: list[bytes] = []
            async with asyncio.timeout(BOUND_S):
                while not lines or not lines[-1].startswith(b"data: "):
                    lines.append(await response.content.readline())
                position = next(line for line in lines if line.startswith(b"id: "))[4:].strip()
                # Tokens live ten seconds here; then the stream is over.
                await response.read()
        await doors.api.submit(deposit(wallet, "2.00", "EUR"))
        headers = {"Last-Event-ID": position.decode()}
        async with browser.session.get(f"{browser.url}/live", headers=headers) as response:
            told = await Follower(response).next()

    assert [one["amount"] for one in told["transactions"]] == ["2.00"]


async def test_pages_that_list_money_follow_and_old_ones_do_not(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        wallet = await _own_wallet(browser, doors)
        await browser.open(f"/wallets/{wallet}")
        assert f'data-stream="/live?wallet_id={wallet}"' in browser.text
        await browser.open("/wallets")
        assert 'data-stream="/live"' in browser.text
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.ADMIN)
        for path, is_live in (
            ("/transactions", True),
            ("/operations", True),
            ("/transactions?status=FAILED", True),
            ("/transactions?q=some-key", False),
        ):
            await browser.open(path)
            assert ('data-stream="/live"' in browser.text) is is_live, path


async def test_a_receipt_the_holds_and_the_history_of_some_days(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        wallet, other = await _own_wallet(browser, doors), await doors.api.create_wallet("EUR")
        await doors.api.deposit(wallet, "20.00", "EUR")
        paid = await doors.api.submit(
            {**transfer(other, wallet, "5.00", "EUR"), "description": HOSTILE}
        )
        hold = {
            "type": "hold",
            "source_wallet_id": wallet,
            "amount": "4.00",
            "currency": "EUR",
            "expires_in_s": 3600,
        }
        await doors.api.call(
            "POST",
            "/v1/transactions",
            json=hold,
            headers={"Idempotency-Key": wallet, "Prefer": "wait=10"},
        )
        await browser.open(f"/transactions/{paid.json['id']}/receipt")
        assert "No money has moved" in browser.text
        assert HOSTILE not in browser.text
        await browser.open(f"/wallets/{wallet}/holds")
        assert '<td class="number">4.00</td>' in browser.text
        await browser.open(f"/wallets/{wallet}/holds?status=EXPIRED")
        assert "None." in browser.text
        await browser.open(f"/wallets/{wallet}/history?from=2020-01-01&to=2020-01-02")
        assert "Nothing moved then." in browser.text
        assert browser.text.count('<dd class="number">0.00 EUR</dd>') == 2
        await browser.open(f"/wallets/{wallet}/history?type=deposit&from=nonsense&to=9999-12-31")
        assert browser.status == 200
        assert re.findall(r'class="number in">([^<]+)<', browser.text) == ["20.00"]
        await browser.open(f"/wallets/{other}/history")
        assert browser.status == 404
