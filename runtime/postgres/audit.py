"""The audit log: who did what to which thing, from where; in the same commit as the deed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries


@dataclass(frozen=True, slots=True)
class Trail:
    """Who acts, and over HTTP from which address and by which request."""

    actor: str
    address: str | None = None
    request_id: str | None = None


async def note_act(
    connection: Connection,
    trail: Trail,
    *,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note an act, such as `wallet.changed` of `wallet:<id>`; `detail` is JSON without secrets."""
    await connection.execute(
        load_queries("runtime.postgres")["insert_audit"],
        trail.actor,
        action,
        subject,
        orjson.dumps(detail or {}).decode(),
        trail.address,
        trail.request_id,
    )
