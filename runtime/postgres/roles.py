"""Database roles: one for each process, with the least that it needs, from one table.

The roles are groups without a login; the deployer grants each to the login of its process. The
tables' owner, who migrates, needs none of them. What a migration adds gets its row here, or nobody
but the owner reaches it; a test fails until it has one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import asyncpg

from runtime.postgres.pool import Connection
from runtime.postgres.queries import load_queries


class DatabaseRole(StrEnum):
    """A group that logins belong to."""

    INGRESS = "ackledger_ingress"
    PROCESSOR = "ackledger_processor"
    RECONCILER = "ackledger_reconciler"
    NOTIFIER = "ackledger_notifier"
    OPERATOR = "ackledger_operator"
    """The command line, but `migrate` (the owner's), `verify` and `export` (the reader's)."""
    READER = "ackledger_reader"


class Rights(NamedTuple):
    """What a role may do with a table beside reading it; of columns, the names, or ALL."""

    insert: str = ""
    update: str = ""
    delete: bool = False


ALL: Final = "*"
_INSERT: Final = Rights(insert=ALL)
_UPDATE: Final = Rights(update=ALL)
_CHANGING: Final = Rights(insert=ALL, update=ALL)
_QUEUE: Final = Rights(insert=ALL, update=ALL, delete=True)
_SET: Final = Rights(insert=ALL, delete=True)
_ENDING: Final = "status, failure_code, failure_detail, completed_at"
_RECORDING: Final = Rights(insert=ALL, update=f"{_ENDING}, has_terms, reverses")

_I: Final = DatabaseRole.INGRESS
_P: Final = DatabaseRole.PROCESSOR
_R: Final = DatabaseRole.RECONCILER
_N: Final = DatabaseRole.NOTIFIER
_O: Final = DatabaseRole.OPERATOR

WRITERS: Final[Mapping[str, Mapping[DatabaseRole, Rights]]] = {
    "wallets": {
        _I: Rights(
            insert="id, owner_id, currency, kind, overdraft_limit, metadata, created_by",
            update="status, overdraft_limit, metadata, updated_at, deleted_at",
        ),
        _P: Rights(update="balance, held, version, forced_overdraft, updated_at"),
        _R: Rights(update="held, updated_at"),
        _O: Rights(update="metadata"),
    },
    "entries": {_P: _INSERT},
    "transactions": {
        _I: _RECORDING,
        _O: Rights(insert=ALL, update=f"{_RECORDING.update}, description, metadata, request_id"),
        _P: Rights(
            insert=ALL,
            update=f"{_RECORDING.update}, source_wallet_id, destination_wallet_id, amount,"
            " source_sequence, destination_sequence",
        ),
        _R: Rights(update=_ENDING),
    },
    "transaction_terms": {_I: _INSERT, _O: _INSERT, _P: _INSERT},
    "transaction_legs": {
        _I: _INSERT,
        _O: _INSERT,
        _P: Rights(insert=ALL, update="sequence"),
    },
    "holds": {_P: _CHANGING, _R: _UPDATE},
    "scheduled_transactions": {_I: _SET, _O: _SET, _P: _INSERT, _R: Rights(delete=True)},
    "cancellations": {_I: _INSERT},
    "exceptional_transactions": {_I: _SET, _O: _SET, _P: _SET, _R: _SET},
    "unannounced_transactions": {
        _I: _INSERT,
        _P: Rights(delete=True),
        _R: Rights(delete=True),
    },
    "outbox": {_I: _INSERT, _O: _INSERT, _P: _QUEUE, _R: _INSERT},
    "posting_turn": {_P: _UPDATE},
    "refused_events": {_P: _QUEUE},
    "dead_letters": {_I: _UPDATE, _O: _UPDATE, _P: _INSERT, _R: _INSERT},
    "stale_transactions": {
        _I: _INSERT,
        _O: _INSERT,
        _P: Rights(delete=True),
        _R: _QUEUE,
    },
    "sweep_progress": {_R: _UPDATE},
    "late_endings": {_I: _INSERT, _O: _INSERT, _R: _QUEUE},
    "integrity_findings": {_R: Rights(insert=ALL, update="last_found_at")},
    "verifications": {_I: Rights(insert="requested_by"), _R: _UPDATE},
    "seals": {_R: _INSERT},
    "seal_keys": {_R: _INSERT},
    "seal_progress": {_R: _UPDATE},
    "unsealed_transactions": {_R: _SET},
    "wallet_requests": {_I: _INSERT},
    "api_keys": {_I: Rights(update="last_used_at"), _O: Rights(insert=ALL, update="revoked_at")},
    # The notifier locks a row that it tells somebody by (FOR SHARE), which needs a right to update.
    "users": {_I: _CHANGING, _O: _CHANGING, _N: Rights(update="is_mail_wanted")},
    "user_tokens": {_I: _QUEUE, _O: Rights(delete=True)},
    "sessions": {_I: _QUEUE, _O: Rights(update="revoked_at", delete=True)},
    "refresh_tokens": {_I: _QUEUE},
    "login_log": {_I: _INSERT, _O: Rights(update="email, address, agent")},
    "mail_outbox": {_I: _INSERT, _N: _QUEUE, _O: Rights(delete=True)},
    "notifications": {
        _I: Rights(insert=ALL, update="read_at"),
        _N: _INSERT,
        _O: Rights(delete=True),
    },
    "wallet_grants": {_O: _SET},
    "webhooks": {_I: _CHANGING, _N: Rights(update="status, failing_since, updated_at")},
    "webhook_secrets": {_I: Rights(insert=ALL, update="valid_until")},
    "webhook_deliveries": {
        _I: Rights(update="status, next_attempt_at, retries"),
        _N: _QUEUE,
    },
    "webhook_attempts": {_N: _SET},
    "webhook_progress": {_N: _UPDATE},
    "clients": {_O: Rights(insert=ALL, update="disabled_at")},
    "audit_log": {_I: _INSERT, _N: _INSERT, _O: _INSERT, _R: _INSERT},
    "rules": {_O: _CHANGING},
    "rules_versions": {_O: _CHANGING},
    "rule_counters": {_P: _CHANGING, _R: Rights(update=ALL, delete=True)},
    "seen_destinations": {_P: _INSERT},
    "flags": {_P: _INSERT},
    "reviews": {_I: _UPDATE, _O: _UPDATE, _P: _INSERT},
    "reviewed_transactions": {_I: _UPDATE, _O: _UPDATE, _P: _CHANGING},
    "assets": {_O: _INSERT},
    "deep_metadata": {_O: Rights(delete=True)},
    "partition_layout": {},
    "schema_migrations": {},
}
"""Table to what each role may write. Where a role is missing it may only read."""

SECRET: Final[Mapping[str, frozenset[DatabaseRole]]] = {
    "api_keys": frozenset({_I, _O}),
    "users": frozenset({_I, _O, _N}),
    "user_tokens": frozenset({_I, _O}),
    "sessions": frozenset({_I, _O}),
    "refresh_tokens": frozenset({_I}),
    "login_log": frozenset({_I, _O}),
    "mail_outbox": frozenset({_I, _N, _O}),
    # An update names the rows by what it reads of them.
    "webhook_secrets": frozenset({_I, _N}),
    # Views of keys and accounts.
    "webhook_rights": frozenset({_N}),
    "people_rights": frozenset({_P}),
    "key_rights": frozenset({_P}),
}
"""Tables that only these read, where all others are read by every role."""

LOCK_KEY: Final = 0x61636B73
"""Of an advisory lock: one process grants at a time. The number after that of migrating."""
STATISTICS: Final = "pg_read_all_stats"
"""What the reconciler needs to see since when other roles' database transactions run: it must not
pass over what one of them has yet to commit."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_roles` did and what this login may not do itself."""

    created: tuple[str, ...]
    granted: int
    not_permitted: tuple[str, ...]
    """Statements for a superuser."""


class RolesMissingError(Exception):
    """Roles are missing, and this login may not make them; the message has the statements."""


async def apply_roles(connection: "asyncpg.Connection[asyncpg.Record]") -> Applied:
    """Make the roles that are missing, and give each exactly what the table says; safe to repeat.

    `connection` is the tables' owner. What a role had beside the table is taken away, in one
    commit. Raises RolesMissingError.
    """
    sql = load_queries("runtime.postgres")
    async with connection.transaction():
        await connection.execute(sql["lock_roles"], LOCK_KEY)
        created = await _create(connection, sql)
        grants = list(_grants(await connection.fetch(sql["list_tables"])))
        revoking = await _texts(connection, sql["revoke_all"], [*DatabaseRole])
        granting = await _texts(
            connection, sql["grant_on_tables"], *map(list, zip(*grants, strict=True))
        )
        for statement in (*revoking, *granting):
            await connection.execute(statement)
    return Applied(created, len(granting), await _grant_statistics(connection, sql))


async def have_roles(connection: Connection) -> bool:
    """Whether the server knows any of the roles: then whoever migrates applies them, too."""
    sql = load_queries("runtime.postgres")
    missing = await connection.fetch(sql["list_missing_roles"], [*DatabaseRole])
    return len(missing) < len(DatabaseRole)


class _Grant(NamedTuple):
    """One privilege of one role on one table; `columns` None: on all of it."""

    role: str
    privilege: str
    table: str
    columns: str | None


def _grants(relations: Iterable[asyncpg.Record]) -> Iterator[_Grant]:
    """Yield every grant on the tables and views that are there."""
    for relation in relations:
        table = relation["name"]
        for role in DatabaseRole:
            if role in SECRET.get(table, DatabaseRole):
                yield _Grant(role, "SELECT", table, None)
            rights = WRITERS.get(table, {}).get(role, Rights())
            yield from _grant_on(role, "INSERT", table, rights.insert, relation["columns"])
            yield from _grant_on(role, "UPDATE", table, rights.update, relation["columns"])
            if rights.delete:
                yield _Grant(role, "DELETE", table, None)


def _grant_on(
    role: str, privilege: str, table: str, named: str, columns: Collection[str]
) -> Iterator[_Grant]:
    if named == ALL:
        yield _Grant(role, privilege, table, None)
        return
    # What a later migration adds is granted once it is there.
    there = [one for one in named.split(", ") if one in columns]
    if there:
        yield _Grant(role, privilege, table, ", ".join(there))


async def _create(connection: Connection, sql: Mapping[str, str]) -> tuple[str, ...]:
    missing = [
        row["name"] for row in await connection.fetch(sql["list_missing_roles"], [*DatabaseRole])
    ]
    statements = await _texts(connection, sql["create_roles"], missing)
    try:
        for statement in statements:
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise RolesMissingError(
            f"this login may not make roles; have a superuser run: {'; '.join(statements)};"
        ) from error
    return tuple(missing)


async def _grant_statistics(connection: Connection, sql: Mapping[str, str]) -> tuple[str, ...]:
    if await connection.fetchval(sql["has_role"], DatabaseRole.RECONCILER, STATISTICS):
        return ()
    [statement] = await _texts(connection, sql["grant_role"], STATISTICS, DatabaseRole.RECONCILER)
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return (statement,)
    return ()


async def _texts(connection: Connection, query: str, *parameters: object) -> list[str]:
    """Return the statements that a query writes; names are quoted by the server."""
    return [row[0] for row in await connection.fetch(query, *parameters)]
