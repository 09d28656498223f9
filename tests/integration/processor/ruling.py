"""Rules for posting tests, written straight into a database and in force at once."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from runtime.postgres.pool import Connection


async def add_rule(  # as many as a rule has
    connection: Connection,
    name: str,
    kind: str,
    parameters: Mapping[str, Any],
    *,
    action: str = "refuse",
    **scope: Any,
) -> UUID:
    """Add an enabled rule; `scope` names its types, wallets, owners, clients and currencies."""
    rule_id: UUID = await connection.fetchval(
        "INSERT INTO rules (id, name, kind, action, parameters, types, wallets, owners, clients, "
        "currencies, is_enabled) "
        "VALUES (uuid_v7(clock_us()), $1, $2, $3, $4, $5, $6, $7, $8, $9, true) RETURNING id",
        name,
        kind,
        action,
        orjson.dumps(parameters).decode(),
        *(scope.get(one) for one in ("types", "wallets", "owners", "clients", "currencies")),
    )
    await enforce(connection)
    return rule_id


async def limit_client(
    connection: Connection,
    client: str,
    *,
    per_transaction: Mapping[str, int] | None = None,
    daily: Mapping[str, int] | None = None,
) -> None:
    """Limit a client."""
    await connection.execute(
        "INSERT INTO clients (name, reach, per_transaction_max, daily_max)"
        " VALUES ($1, 'all', $2, $3)",
        client,
        None if per_transaction is None else orjson.dumps(per_transaction).decode(),
        None if daily is None else orjson.dumps(daily).decode(),
    )
    await enforce(connection)


async def enforce(connection: Connection) -> None:
    """Enforce what was changed now, and not only in five seconds."""
    await connection.execute("UPDATE rules_versions SET enforced_from = clock_timestamp()")


def velocity(by: str, *, window_s: int = 3600, **limits: Any) -> dict[str, Any]:
    """Return the parameters of a velocity rule."""
    return {"by": by, "window_s": window_s, **limits}
