"""What the tables hold of one person: written out for them, and made unreadable when they ask.

Written out as one JSON document: one snapshot, read page by page. Erased, what says who a person
is, while the books and seals verify as before: step by step, each a commit of its own and safe to
do again, so an erasure that was cut short is begun anew by the same command. The address goes last,
since some steps find what they erase by it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from cli.dependencies import Connection
from cli.failures import RefusedError
from contracts.money import register_asset
from contracts.problems import ContractError
from contracts.representations.people import (
    render_login,
    render_notification,
    render_session,
    render_user,
)
from contracts.representations.transaction import format_moment, render_transaction
from contracts.representations.wallet import render_wallet, render_wallet_entry
from ingress.people.accounts import close_owner_wallets
from runtime.postgres.pool import rows_changed
from runtime.postgres.queries import load_queries

PAGE: Final = 500
"""Rows in memory at once; a transaction of a hundred legs has some tens of kilobytes."""
Write = Callable[[str], object]
"""Takes the next piece of the text."""
Json = dict[str, Any]
Rows = AsyncIterator[asyncpg.Record]
_FIRST: Final = UUID(int=0)
STEP: Final = 1_000
"""Rows in one commit: posting waits for none of them for longer than some milliseconds."""
Step = Callable[[], Awaitable[int]]


async def find_person(connection: Connection, id_or_email: str) -> UUID:
    """Return the id of an account; raises RefusedError where nobody has it.

    An address finds only whoever uses it now; deleted accounts are found by their id.
    """
    found: UUID | None = await connection.fetchval(
        load_queries("cli.personal")["find_person"], _id_of(id_or_email), id_or_email.lower()
    )
    if found is None:
        raise RefusedError(f"no account has the id or the address '{id_or_email}'")
    return found


def _id_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


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


async def erase_person(connection: Connection, id_or_email: str, *, actor: str) -> dict[str, Any]:
    """Erase a person's data, and return the account's id and how much that was.

    An account that is not deleted yet is deleted with it, and its wallets are closed. Raises
    RefusedError where nobody has this id or address, or a wallet is not empty; then nothing is
    changed.
    """
    return await _Erasure(connection, await find_person(connection, id_or_email)).run(actor)


class _Erasure:
    """One run."""

    def __init__(self, connection: Connection, user_id: UUID) -> None:
        self._connection = connection
        self._user_id = user_id
        self._sql = load_queries("cli.personal")

    async def run(self, actor: str) -> dict[str, Any]:
        email = await self._close()
        counts = {
            "sessions": await self._connection.fetchval(
                self._sql["delete_sessions"], self._user_id
            ),
            "logins": await self._until_done("erase_logins")
            + await self._execute("erase_logins_by_address", email),
            "notifications": await self._until_done("delete_notifications"),
            "mails": await self._execute("delete_mails", email),
            "wallets": await self._until_done("erase_wallet_texts"),
            "transactions": await self._erase_texts(),
        }
        detail = orjson.dumps(counts).decode()
        await self._execute("erase_person", self._user_id, actor, detail)
        return {"id": str(self._user_id), **counts}

    async def _close(self) -> str:
        """Let nobody in any more, and return the address; raises RefusedError."""
        async with self._connection.transaction():
            user = await self._connection.fetchrow(self._sql["lock_person"], self._user_id)
            assert user is not None, "a user's row stays"  # noqa: S101
            try:
                await close_owner_wallets(self._connection, self._user_id, may_be_frozen=True)
            except ContractError:
                raise RefusedError(
                    "some of the person's wallets hold, owe or reserve money, or they are more"
                    " than a thousand: bring them to zero and close them first"
                ) from None
            await self._execute("close_person", self._user_id)
            return str(user["email"])

    async def _until_done(self, query: str) -> int:
        done = 0
        while changed := await self._execute(query, self._user_id, STEP):
            done += changed
        return done

    async def _erase_texts(self) -> int:
        done, start = 0, ""
        while page := await self._page(start):
            done += await self._execute("erase_texts", [row["id"] for row in page])
            start = page[-1]["idempotency_key"]
        return done

    async def _page(self, start: str) -> list[asyncpg.Record]:
        return await self._connection.fetch(self._sql["page_submitted"], self._user_id, start, STEP)

    async def _execute(self, query: str, *arguments: Any) -> int:
        return rows_changed(await self._connection.execute(self._sql[query], *arguments))
