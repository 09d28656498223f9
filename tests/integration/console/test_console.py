"""The console without JavaScript: what people see and do, and what nobody gets past."""

import asyncio
import re
from uuid import UUID, uuid4

import aiohttp
import orjson
from markupsafe import escape

from console.session import COOKIE
from contracts.scopes import Role as PersonRole
from runtime.postgres.pool import connect
from tests.integration.console.browsing import (
    HOSTILE,
    PASSWORD,
    browsing,
    logged_in,
    person,
)
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.ruling import add_rule
from tests.support import eventually, transfer


async def test_a_customer_makes_a_wallet_pays_in_and_transfers(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        assert "There is no wallet yet" in browser.text
        wallets = []
        for _ in range(2):
            await browser.open("/wallets")
            await browser.send("/wallets", key=browser.hidden("key"), currency="eur")
            wallets.append(browser.path.rpartition("/")[2])
        first, second = wallets
        key = browser.hidden("key", ending="-d")
        for _ in range(2):
            # Sent twice, it is one deposit.
            await browser.send(f"/wallets/{first}/deposit", key=key, currency="EUR", amount="25.00")
            assert "COMPLETED" in browser.text
        await browser.open(f"/wallets/{first}")
        await browser.send(
            f"/wallets/{first}/transfer",
            key=browser.hidden("key", ending="-t"),
            destination=second,
            currency="EUR",
            amount="10.00",
            description=HOSTILE,
        )
        assert "COMPLETED" in browser.text
        assert HOSTILE not in browser.text
        for look in ("1", "31", "-1", "x"):
            await browser.open(f"{browser.path}?look={look}")
            assert ("It is COMPLETED." in browser.text) == (look in {"1", "31"})
        await browser.open(f"/wallets/{first}")
        assert "15.00 <abbr>EUR</abbr>" in browser.text
        await browser.send(
            f"/wallets/{first}/withdrawal",
            key=browser.hidden("key", ending="-w"),
            currency="EUR",
            amount="99.00",
        )
        assert "insufficient_funds" in browser.text
        await browser.send(
            f"/wallets/{first}/deposit", key=uuid4().hex, currency="EUR", amount="1.234"
        )
        assert browser.status == 422
        assert 'role="alert"' in browser.text


async def test_another_s_wallet_is_not_found_and_operators_pages_are_refused(
    doors: CheckedDoors,
) -> None:
    theirs = await doors.api.create_wallet()
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.open(f"/wallets/{theirs}")
        assert browser.status == 404
        for path in ("/operations", "/dead-letters", "/reviews", "/audit"):
            await browser.open(path)
            assert browser.status == 403, path


async def test_who_is_not_logged_in_sees_nothing_and_a_wrong_password_says_so(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        for path in ("/", "/wallets", "/operations", "/account"):
            await browser.open(path)
            assert browser.path == "/login", path
        await browser.send("/login", email=await person(doors, PersonRole.ADMIN), password="wrong")
        assert browser.status == 401
        assert 'role="alert"' in browser.text


async def test_what_another_site_sends_does_nothing(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.send("/wallets", origin="https://evil.example", currency="EUR")
        assert browser.status == 403
        await browser.open("/wallets")
        assert "There is no wallet yet" in browser.text


async def test_the_audit_log_and_every_other_list_open(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.ADMIN)
        assert browser.path == "/operations"
        for path in ("/transactions", "/reviews", "/webhooks", "/account", "/wallets", "/audit"):
            await browser.open(path)
            assert browser.status == 200, path
            assert HOSTILE not in browser.text


async def test_every_answer_is_protected_and_the_cookie_is_read_by_nobody(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        await browser.open("/login")
        assert browser.headers["Server"] == "ackledger"
        policy = browser.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert browser.headers["Cache-Control"] == "no-store"
        email = await person(doors, PersonRole.CUSTOMER)
        fields = {"email": email, "password": PASSWORD}
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{browser.url}/login",
                data=fields,
                headers={"Origin": browser.url},
                allow_redirects=False,
            ) as response,
        ):
            cookie = response.headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "eyJ" not in cookie


async def test_after_a_log_out_the_session_is_over(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.send("/logout")
        assert browser.path == "/login"
        await browser.open("/account")
        assert browser.path == "/login"


async def test_requests_at_once_exchange_tokens_once_and_staylogged_in(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await asyncio.gather(*(browser.open("/wallets") for _ in range(8)))
        await browser.open("/account")
        assert browser.path == "/account"


async def test_the_api_sees_where_a_person_is_and_with_which_program(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        browser.said = {"X-Forwarded-For": "203.0.113.9", "User-Agent": f"Firefox {HOSTILE}"}
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.open("/account")
        assert "succeeded from 203.0.113.9" in browser.text
        assert f"<td>Firefox {escape(HOSTILE)}</td>" in browser.text


async def test_a_session_that_was_ended_elsewhere_leads_to_the_login(doors: CheckedDoors) -> None:
    async with browsing(doors) as one, browsing(doors) as other:
        email = await logged_in(one, doors, PersonRole.CUSTOMER)
        await other.send("/login", email=email, password=PASSWORD)
        await one.open("/account")
        link = re.search(r'action="(/account/sessions/[0-9a-f-]{36})"', one.text)
        assert link is not None
        await one.send(link[1])
        await other.open("/wallets")
        assert other.path == "/login"
        assert "Log out" not in other.text


async def test_a_form_that_nobody_answered_is_sent_again_and_counts_once(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.send("/wallets", key=uuid4().hex, currency="EUR")
        path, key = browser.path, browser.hidden("key", ending="-d")
        fields = {"key": key, "currency": "EUR", "amount": "7.00"}
        await browser.send(f"{path}/deposit", **fields)
        assert "COMPLETED" in browser.text
        await asyncio.to_thread(doors.system.kill, "ingress")
        try:
            await browser.send(f"{path}/deposit", **fields)
            assert browser.status == 503
            assert "not known whether" in browser.text
            assert browser.hidden("key") == key
            await browser.open("/wallets")
            assert browser.status == 503
        finally:
            await asyncio.to_thread(doors.system.restart, "ingress")
        # The outage logged nobody out.
        await browser.send(f"{path}/deposit", **fields)
        assert "COMPLETED" in browser.text
        await browser.open(path)
        assert "7.00 <abbr>EUR</abbr>" in browser.text


async def test_a_person_chooses_light_or_dark(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        for chosen, marked in (
            ("dark", True),
            (HOSTILE, False),
            ("light", True),
            ("system", False),
        ):
            await browser.send("/account/appearance", appearance=chosen)
            assert browser.path == "/account"
            assert (f'<html lang="en" data-appearance="{chosen}">' in browser.text) == marked
            assert ("data-appearance" in browser.text) == marked


async def test_figures_are_drawn_for_operators_alone(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.AUDITOR)
        await browser.open("/operations/figures.json")
        assert browser.status == 200
        columns = orjson.loads(browser.text)["columns"]
        assert len(columns["accepted_per_s"]) == len(columns["pending"])
        await browser.open("/operations")
        assert 'data-columns="accepted_per_s completed_per_s failed_per_s"' in browser.text
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.open("/operations/figures.json")
        assert browser.status == 403


async def test_what_a_rule_holds_back_is_approved_or_refused_with_a_reason(
    doors: CheckedDoors,
) -> None:
    rich = await doors.api.create_wallet("EUR")
    await doors.api.deposit(rich, "10.00", "EUR")
    connection = await connect(doors.database_url, name="test")
    await add_rule(
        connection, "first", "first_destination", {}, action="review", wallets=[UUID(rich)]
    )
    await connection.close()
    held = {}
    for amount in ("1.00", "2.00"):
        poor = await doors.api.create_wallet("EUR")
        body = transfer(rich, poor, amount, "EUR")
        answer = await doors.api.call(
            "POST", "/v1/transactions", json=body, headers={"Idempotency-Key": uuid4().hex}
        )
        held[amount] = answer.json["id"]
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.OPERATOR)

        async def both() -> dict[str, str]:
            page = await browser.open("/reviews")
            articles = page.split('<article class="card"')[1:]
            found = {
                amount: match[1]
                for amount, transaction_id in held.items()
                for article in articles
                if transaction_id in article
                and (match := re.search(r'action="/reviews/([0-9a-f-]{36})/approve"', article))
            }
            return found if len(found) == len(held) else {}

        reviews = await eventually(both, what="both wait for a decision")
        await browser.send(f"/reviews/{reviews['1.00']}/approve", reason="known to us")
        assert "It is done." in browser.text
        await browser.send(f"/reviews/{reviews['2.00']}/refuse", reason="not known to us")
        await browser.send(f"/reviews/{reviews['2.00']}/refuse", reason="not known to us")
        assert browser.status == 409
        assert 'role="alert"' in browser.text
        await browser.open("/reviews?state=APPROVED")
        assert "known to us" in browser.text
    statuses = [
        (await doors.api.call("GET", f"/v1/transactions/{one}", headers={"Prefer": "wait=20"})).json
        for one in held.values()
    ]
    assert [one["status"] for one in statuses] == ["COMPLETED", "FAILED"]
