"""The console without JavaScript: what people see and do, and what nobody gets past."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from html import unescape
from typing import Final
from uuid import uuid4

import aiohttp
import pytest
from markupsafe import escape

from cli.users import create_user
from console.session import COOKIE
from contracts.scopes import Role as PersonRole
from ingress.people.token_keys import TokenKeys
from runtime.postgres.pool import connect
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tools.stack import Stack
from tools.system import MOVING_MONEY, Instance, Role

PASSWORD: Final = "correct horse battery staple"  # of people who are made here
HOSTILE: Final = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A whole system with a console, whose customers may pay in."""
    keys = tmp_path_factory.mktemp("keys")
    TokenKeys(keys).rotate(datetime.now(tz=UTC))
    async with open_doors(
        stack,
        template,
        tmp_path_factory.mktemp("system"),
        instances=(*MOVING_MONEY, Instance(role=Role.CONSOLE)),
        settings={
            "ACKLEDGER_TOKEN_KEYS": str(keys),
            "ACKLEDGER_CUSTOMER_DEPOSITS": "true",
            # So short that every request exchanges its tokens first.
            "ACKLEDGER_ACCESS_TOKEN_S": "10",
            "ACKLEDGER_TRUSTED_PROXIES": "127.0.0.1",
            "ACKLEDGER_RATE_LIMITS": "login=none anonymous=none authenticated=none",
            # Redis is shared with other modules, whose people mistyped from this same address.
            "ACKLEDGER_LOGIN_FREE_ATTEMPTS_PER_ADDRESS": "1000000",
            "ACKLEDGER_WALLETS_PER_OWNER_AND_CURRENCY": "2",
        },
    ) as opened:
        yield opened


class Browser:
    """A person's browser, as far as forms and links go."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session
        self.text = ""
        self.path = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.said: dict[str, str] = {}
        """Headers of every request."""

    async def open(self, path: str) -> str:
        """Follow a link."""
        return await self._take("GET", path)

    async def send(self, path: str, *, origin: str | None = None, **fields: str) -> str:
        """Send a form; by default from a page of ours."""
        return await self._take("POST", path, data=fields, origin=origin or self.url)

    def hidden(self, name: str, *, ending: str = "") -> str:
        """Return a hidden field of the page."""
        found = re.search(rf'name="{name}" value="([^"]+{ending})"', self.text)
        assert found is not None, self.text
        return unescape(found[1])

    async def _take(
        self, method: str, path: str, *, data: dict[str, str] | None = None, origin: str = ""
    ) -> str:
        headers = dict(self.said)
        if origin:
            headers["Origin"] = origin
        async with self._session.request(
            method, self.url + path, data=data, headers=headers
        ) as response:
            self.text = await response.text()
            self.path = response.url.path
            self.status = response.status
            self.headers = dict(response.headers)
        return self.text


@asynccontextmanager
async def browsing(doors: CheckedDoors) -> AsyncIterator[Browser]:
    """Open a browser without cookies."""
    assert doors.system.console_url is not None
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Browser(doors.system.console_url, session)


async def _person(doors: CheckedDoors, role: PersonRole) -> str:
    email = f"{uuid4().hex}@example.com"
    connection = await connect(doors.database_url, name="test")
    await create_user(
        connection, email=email, name=HOSTILE, role=role, password=PASSWORD, actor="test"
    )
    await connection.close()
    return email


async def _logged_in(browser: Browser, doors: CheckedDoors, role: PersonRole) -> str:
    email = await _person(doors, role)
    await browser.send("/login", email=email, password=PASSWORD)
    assert browser.status == 200, browser.text
    return email


async def test_a_customer_makes_a_wallet_pays_in_and_transfers(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
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
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
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
        await browser.send("/login", email=await _person(doors, PersonRole.ADMIN), password="wrong")
        assert browser.status == 401
        assert 'role="alert"' in browser.text


async def test_what_another_site_sends_does_nothing(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.send("/wallets", origin="https://evil.example", currency="EUR")
        assert browser.status == 403
        await browser.open("/wallets")
        assert "There is no wallet yet" in browser.text


async def test_an_operator_looks_at_a_dead_letter_and_discards_it(doors: CheckedDoors) -> None:
    await doors.upstream.publish(b"no JSON", type="transaction.requested.v1")
    async with browsing(doors) as browser:
        await _logged_in(browser, doors, PersonRole.ADMIN)
        assert browser.path == "/operations"
        link = None
        for _ in range(100):
            await browser.open("/dead-letters")
            link = re.search(r'href="(/dead-letters/[0-9a-f-]{36})"', browser.text)
            if link is not None:
                break
        assert link is not None
        await browser.open(link[1])
        await browser.send(f"{link[1]}/discard")
        assert "discarded" in browser.text
        await browser.open("/audit?action=dead_letter.discarded")
        assert "dead_letter.discarded" in browser.text
        for path in ("/transactions", "/reviews", "/webhooks", "/account", "/wallets"):
            await browser.open(path)
            assert browser.status == 200, path
            assert HOSTILE not in browser.text


async def test_every_answer_is_protected_and_the_cookie_is_read_by_nobody(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        await browser.open("/login")
        policy = browser.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert browser.headers["Cache-Control"] == "no-store"
        email = await _person(doors, PersonRole.CUSTOMER)
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
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.send("/logout")
        assert browser.path == "/login"
        await browser.open("/account")
        assert browser.path == "/login"


async def test_requests_at_once_exchange_tokens_once_and_stay_logged_in(
    doors: CheckedDoors,
) -> None:
    async with browsing(doors) as browser:
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
        await asyncio.gather(*(browser.open("/wallets") for _ in range(8)))
        await browser.open("/account")
        assert browser.path == "/account"


async def test_the_api_sees_where_a_person_is_and_with_which_program(doors: CheckedDoors) -> None:
    async with browsing(doors) as browser:
        browser.said = {"X-Forwarded-For": "203.0.113.9", "User-Agent": f"Firefox {HOSTILE}"}
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
        await browser.open("/account")
        assert "succeeded from 203.0.113.9" in browser.text
        assert f"<td>Firefox {escape(HOSTILE)}</td>" in browser.text


async def test_a_session_that_was_ended_elsewhere_leads_to_the_login(doors: CheckedDoors) -> None:
    async with browsing(doors) as one, browsing(doors) as other:
        email = await _logged_in(one, doors, PersonRole.CUSTOMER)
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
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
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
        await _logged_in(browser, doors, PersonRole.CUSTOMER)
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
