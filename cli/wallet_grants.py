"""Grants: wallets that a client may use although it did not make them. Operators make them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from cli.api_keys import checked_submitter
from cli.dependencies import Connection
from cli.failures import RefusedError
from contracts.representations.transaction import format_moment
from contracts.requests.wallet import WalletKind
from runtime.postgres.queries import load_queries

LISTED_MAX: Final = 1000
"""Grants of one list."""


@dataclass(frozen=True, slots=True)
class WalletGrant:
    """A client may see and move a wallet."""

    wallet_id: UUID
    client: str
    granted_by: str
    granted_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "wallet_id": str(self.wallet_id),
            "client": self.client,
            "granted_by": self.granted_by,
            "granted_at": format_moment(self.granted_at),
        }


async def grant_wallet(
    connection: Connection, wallet_id: UUID, *, client: str, actor: str
) -> tuple[WalletGrant, bool]:
    """Let a client use a wallet; return the grant, and whether it is new.

    `client` may be a person's submitter, too. Raises RefusedError for a wallet that there is not,
    and for the external ones, which nobody may be given.
    """
    checked_submitter(client)
    sql = load_queries("cli")
    kind = await connection.fetchval(sql["read_wallet_kind"], wallet_id)
    if kind is None:
        raise RefusedError(f"there is no wallet {wallet_id}")
    if kind == WalletKind.EXTERNAL:
        raise RefusedError(f"{wallet_id} is an external wallet: nobody's, and not to be granted")
    row = await connection.fetchrow(sql["insert_grant"], client, wallet_id, actor)
    if row is not None:
        return _grant(row), True
    known = await connection.fetchrow(sql["read_grant"], client, wallet_id)
    if known is None:
        raise RefusedError("the grant was revoked at this moment; try again")
    return _grant(known), False


async def revoke_grant(
    connection: Connection, wallet_id: UUID, *, client: str, actor: str
) -> WalletGrant:
    """End a grant and return it; raises RefusedError where there is none."""
    row = await connection.fetchrow(load_queries("cli")["delete_grant"], client, wallet_id, actor)
    if row is None:
        raise RefusedError(f"the wallet {wallet_id} is not granted to '{client}'")
    return _grant(row)


async def list_grants(
    connection: Connection, *, wallet_id: UUID | None, client: str | None
) -> Sequence[WalletGrant]:
    """Return the grants of a wallet, of a client, or of both: at most LISTED_MAX."""
    rows = await connection.fetch(load_queries("cli")["list_grants"], wallet_id, client, LISTED_MAX)
    return [_grant(row) for row in rows]


def _grant(row: asyncpg.Record) -> WalletGrant:
    return WalletGrant(row["wallet_id"], row["client"], row["granted_by"], row["granted_at"])
