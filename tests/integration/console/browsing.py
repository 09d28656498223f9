"""Somebody's browser without JavaScript, and people with accounts."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from typing import Final, TypeAlias
from uuid import uuid4

import aiohttp

from cli.users import create_user
from contracts.scopes import Role as PersonRole
from runtime.postgres.pool import connect
from tests.integration.ingress.serving import CheckedDoors

PASSWORD: Final = "correct horse battery staple"  # of people who are made here
HOSTILE: Final = "<script>alert(1)</script>\"'&"

Field: TypeAlias = str | list[str]
"""A field of a form: its value, or several."""


class Browser:
    """A person's browser, as far as forms and links go."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.text = ""
        self.path = ""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.said: dict[str, str] = {}
        """Headers of every request."""

    async def open(self, path: str) -> str:
        """Follow a link."""
        return await self._take("GET", path)

    async def send(self, path: str, *, origin: str | None = None, **fields: Field) -> str:
        """Send a form; by default from a page of ours."""
        return await self._take("POST", path, data=fields, origin=origin or self.url)

    def hidden(self, name: str, *, ending: str = "") -> str:
        """Return a hidden field of the page."""
        found = re.search(rf'name="{name}" value="([^"]+{ending})"', self.text)
        assert found is not None, self.text
        return unescape(found[1])

    async def _take(
        self, method: str, path: str, *, data: Mapping[str, Field] | None = None, origin: str = ""
    ) -> str:
        headers = dict(self.said)
        if origin:
            headers["Origin"] = origin
        async with self.session.request(
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


async def person(doors: CheckedDoors, role: PersonRole) -> str:
    """Make somebody with PASSWORD; return the address."""
    email = f"{uuid4().hex}@example.com"
    connection = await connect(doors.database_url, name="test")
    await create_user(
        connection, email=email, name=HOSTILE, role=role, password=PASSWORD, actor="test"
    )
    await connection.close()
    return email


async def logged_in(browser: Browser, doors: CheckedDoors, role: PersonRole) -> str:
    """Log somebody new in; return the address."""
    email = await person(doors, role)
    await browser.send("/login", email=email, password=PASSWORD)
    assert browser.status == 200, browser.text
    return email
