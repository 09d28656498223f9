"""All that the tables hold of one person, as one JSON document: one snapshot, read page by page."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from cli.dependencies import Connection
from cli.personal.person import find_person
from contracts.money import register_asset
from contracts.representations.people import (
    render_login,
    render_notification,
    render_session,
    render_user,
)
from contracts.representations.transaction import format_moment, render_transaction
from contracts.representations.wallet import render_wallet, render_wallet_entry
from runtime.postgres.queries import load_queries

PAGE: Final = 500
"""Rows in memory at once; a transaction of a hundred legs has some tens of kilobytes."""

Write = Callable[[str], object]
"""Takes the next piece of the text."""
Json = dict[str, Any]
Rows = AsyncIterator[asyncpg.Record]

_FIRST: Final = UUID(int=0)


async def export_person(connection: Connection, id_or_email: str, write: Write) -> dict[str, int]:
    """Write one person's data as a JSON object; return how many items each of its lists has.

    Tokens, and the hashes of passwords and tokens, are not in it. Raises RefusedError where nobody
    has this id or address, and then has written nothing.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for row in await connection.fetch(load_queries("cli")["list_assets"]):
            register_asset(row["code"], row["exponent"], is_usable=True)
        return await _Export(connection, await find_person(connection, id_or_email), write).run()


class _Export:
    """One run."""

    def __init__(self, connection: Connection, user_id: UUID, write: Write) -> None:
        self._connection = connection
        self._user_id = user_id
        self._write = write
        self._sql = load_queries("cli.personal")

    async def run(self) -> dict[str, int]:
        account = await self._connection.fetchrow(self._sql["read_person"], self._user_id)
        assert account is not None, "the snapshot has it"  # noqa: S101
        self._write('{"account":' + _text(render_user(account)))
        lists = {
            "sessions": self._rendered("page_sessions", _session),
            "logins": self._rendered("page_logins", render_login),
            "notifications": self._rendered("page_notifications", render_notification),
            "mails": self._rendered("page_mails", _mail),
            "audit": self._rendered("page_audit", _deed),
            "wallets": self._rendered("page_wallets", render_wallet),
            "entries": self._entries(),
            "transactions": self._transactions(),
        }
        counts = {name: await self._list(name, items) for name, items in lists.items()}
        self._write("\n}\n")
        return counts

    async def _list(self, name: str, items: AsyncIterator[Json]) -> int:
        self._write(f',\n"{name}":[')
        count = 0
        async for item in items:
            self._write((",\n" if count else "\n") + _text(item))
            count += 1
        self._write("]")
        return count

    async def _rendered(
        self, query: str, render: Callable[[asyncpg.Record], Json]
    ) -> AsyncIterator[Json]:
        async for row in self._pages(query, self._user_id, start=_FIRST, key="id"):
            yield render(row)

    async def _entries(self) -> AsyncIterator[Json]:
        async for wallet in self._pages("page_wallets", self._user_id, start=_FIRST, key="id"):
            async for row in self._pages("page_entries", wallet["id"], start=0, key="sequence"):
                yield render_wallet_entry(row)

    async def _transactions(self) -> AsyncIterator[Json]:
        start = ""
        while page := await self._connection.fetch(
            self._sql["page_submitted"], self._user_id, start, PAGE
        ):
            ids = [row["id"] for row in page]
            for row in await self._connection.fetch(self._sql["read_transactions"], ids):
                yield render_transaction(row)
            start = page[-1]["idempotency_key"]

    async def _pages(self, query: str, of: UUID, *, start: UUID | int, key: str) -> Rows:
        while page := await self._connection.fetch(self._sql[query], of, start, PAGE):
            for row in page:
                yield row
            start = page[-1][key]


def _text(item: Json) -> str:
    return orjson.dumps(item).decode()


def _moment(value: Any) -> str | None:
    return None if value is None else format_moment(value)


def _session(row: asyncpg.Record) -> Json:
    session = render_session(row, current_id=None)
    del session["is_current"]
    return {**session, "revoked_at": _moment(row["revoked_at"])}


def _mail(row: asyncpg.Record) -> Json:
    return {
        "id": str(row["id"]),
        "subject": row["subject"],
        "created_at": _moment(row["created_at"]),
        "sent_at": _moment(row["sent_at"]),
    }


def _deed(row: asyncpg.Record) -> Json:
    return {
        "id": str(row["id"]),
        "at": _moment(row["occurred_at"]),
        "actor": row["actor"],
        "action": row["action"],
        "detail": orjson.Fragment(row["detail"]),
    }
