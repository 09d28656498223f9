"""People as tests need them: registered, confirmed and logged in, with the mails they were sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import Answer

PASSWORD = "correct horse battery staple"


def new_email() -> str:
    """Return an address that nobody has."""
    return f"p{uuid4().hex}@example.com"


@dataclass
class Person:
    """Somebody who is logged in."""

    people: "People"
    email: str
    tokens: Mapping[str, Any]

    @property
    def authorization(self) -> dict[str, str]:
        """The header that lets them in."""
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    async def call(self, method: str, path: str, json: Any = None, **params: str) -> Answer:
        """Call with their access token."""
        return await self.people.nobody.call(
            method, path, json=json, params=params, headers=self.authorization
        )

    async def id(self) -> UUID:
        """Return the id of their account."""
        return UUID((await self.call("GET", "/v1/users/me")).json["id"])


class People:
    """The door that people come through, and the database behind it."""

    def __init__(self, doors: CheckedDoors, nobody: CheckedApi) -> None:
        """`nobody` is a client without any key."""
        self.doors = doors
        self.nobody = nobody

    async def post(self, path: str, **body: Any) -> Answer:
        """Call /v1/auth/… as nobody."""
        return await self.nobody.call("POST", f"/v1/auth/{path}", json=body)

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """Ask the database."""
        connection = await connect(self.doors.database_url, name="test")
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def mails(self, email: str) -> list[Any]:
        """Return the mails to an address, the oldest first."""
        return await self.fetch(
            "SELECT * FROM mail_outbox WHERE to_address = $1 ORDER BY id", email
        )

    async def mailed_token(self, email: str) -> str:
        """Return the token in the last mail to an address."""
        found = re.search(r"ack_\w+_[\w-]{43}", (await self.mails(email))[-1]["text"])
        assert found is not None
        return found.group()

    async def register(self, email: str | None = None, password: str = PASSWORD) -> str:
        """Register and confirm somebody; return the address."""
        email = email or new_email()
        assert (await self.post("register", email=email, password=password)).status == 202
        confirmed = await self.post("confirm", token=await self.mailed_token(email))
        assert confirmed.status == 200, confirmed.body
        return email

    async def log_in(self, email: str, password: str = PASSWORD) -> Person:
        """Log somebody in."""
        answer = await self.post("login", email=email, password=password)
        assert answer.status == 200, answer.body
        return Person(self, email, answer.json)

    async def person(self, role: str | None = None) -> Person:
        """Return somebody new, logged in, with a role."""
        email = await self.register()
        if role is not None:
            await self.fetch(
                "UPDATE users SET role = $2::text::user_role WHERE email = $1", email, role
            )
        return await self.log_in(email)
