"""Erasure: what says who a person is, made unreadable, while the books and seals verify as before.

Step by step, each a commit of its own and safe to do again: an erasure that was cut short is begun
anew by the same command. The address goes last, since some steps find what they erase by it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from cli.dependencies import Connection
from cli.failures import RefusedError
from cli.personal.person import find_person
from contracts.problems import ContractError
from ingress.people.accounts import close_owner_wallets
from runtime.postgres.pool import rows_changed
from runtime.postgres.queries import load_queries

STEP: Final = 1_000
"""Rows in one commit: posting waits for none of them for longer than some milliseconds."""

Step = Callable[[], Awaitable[int]]


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
