"""Database roles: what each process may write, tried by its own login; nobody has more."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest

from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from runtime.postgres.roles import WRITERS, DatabaseRole, apply_roles
from tests.conftest import Connection, create_database, drop_database
from tools.stack import Stack

_I, _P, _R = DatabaseRole.INGRESS, DatabaseRole.PROCESSOR, DatabaseRole.RECONCILER
_O, _N = DatabaseRole.OPERATOR, DatabaseRole.NOTIFIER

# What each role may do to each table: insert, update, delete; of the latter two perhaps some
# columns. A new table gets its row here and in runtime/postgres/roles.py.
EXPECTED: Final[Mapping[str, Mapping[DatabaseRole, str]]] = {
    "api_keys": {_I: "u", _O: "iu"},
    "assets": {_O: "i"},
    "audit_log": {_I: "i", _N: "i", _O: "i", _R: "i"},
    "cancellations": {_I: "i"},
    "clients": {_O: "iu"},
    "wallet_grants": {_O: "id"},
    "dead_letters": {_I: "u", _O: "u", _P: "i", _R: "i"},
    "deep_metadata": {_O: "d"},
    "entries": {_P: "i"},
    "exceptional_transactions": {_I: "id", _O: "id", _P: "id", _R: "id"},
    "holds": {_P: "iu", _R: "u"},
    "integrity_findings": {_R: "iu"},
    "verifications": {_I: "i", _R: "u"},
    "late_endings": {_I: "i", _O: "i", _R: "iud"},
    "outbox": {_I: "i", _O: "i", _P: "iud", _R: "i"},
    "partition_layout": {},
    "posting_turn": {_P: "u"},
    "refused_events": {_P: "iud"},
    "scheduled_transactions": {_I: "id", _O: "id", _P: "i", _R: "d"},
    "schema_migrations": {},
    "seal_keys": {_R: "i"},
    "seal_progress": {_R: "u"},
    "seals": {_R: "i"},
    "stale_transactions": {_I: "i", _O: "i", _P: "d", _R: "iud"},
    "sweep_progress": {_R: "u"},
    "transaction_legs": {_I: "i", _O: "i", _P: "iu"},
    "transaction_terms": {_I: "i", _O: "i", _P: "i"},
    "transactions": {_I: "iu", _O: "iu", _P: "iu", _R: "u"},
    "unannounced_transactions": {_I: "i", _P: "d", _R: "d"},
    "unsealed_transactions": {_R: "id"},
    "wallet_requests": {_I: "i"},
    "users": {_I: "iu", _O: "iu", _N: "u"},
    "user_tokens": {_I: "iud", _O: "d"},
    "sessions": {_I: "iud", _O: "ud"},
    "refresh_tokens": {_I: "iud"},
    "login_log": {_I: "i", _O: "u"},
    "mail_outbox": {_I: "i", _N: "iud", _O: "d"},
    "notifications": {_I: "iu", _N: "i", _O: "d"},
    "rules": {_O: "iu"},
    "rules_versions": {_O: "iu"},
    "rule_counters": {_P: "iu", _R: "ud"},
    "seen_destinations": {_P: "i"},
    "flags": {_P: "i"},
    "reviews": {_I: "u", _O: "u", _P: "i"},
    "reviewed_transactions": {_I: "u", _O: "u", _P: "iu"},
    "webhooks": {_I: "iu", _N: "u"},
    "webhook_secrets": {_I: "iu"},
    "webhook_deliveries": {_I: "u", _N: "iud"},
    "webhook_attempts": {_N: "id"},
    "webhook_progress": {_N: "u"},
    "wallets": {_I: "iu", _P: "u", _R: "u", _O: "u"},
}
_APPEND_ONLY: Final = ("entries", "seals", "audit_log", "assets")


@pytest.fixture(scope="module")
async def books(stack: Stack, template: str) -> AsyncIterator[str]:
    """A database whose roles are applied; the stack has a login for each."""
    url = await create_database(stack, template)
    connection = await connect(url, name="test")
    await apply_roles(connection)
    await connection.close()
    yield url
    await drop_database(stack, url)


Login = Callable[..., Awaitable["asyncpg.Connection[asyncpg.Record]"]]


@pytest.fixture
async def log_in(stack: Stack, books: str) -> AsyncIterator[Login]:
    """Connect by the login of a role, to the books unless another database is named."""
    opened = []

    async def connected(role: DatabaseRole, url: str = books) -> Any:
        process = role.removeprefix("ackledger_")
        own = stack.as_process({"DATABASE_URL": url}, process)["DATABASE_URL"]
        opened.append(await connect(own, name="test"))
        return opened[-1]

    yield connected
    for connection in opened:
        await connection.close()


@pytest.fixture(params=list(DatabaseRole))
async def login(request: pytest.FixtureRequest, log_in: Login) -> tuple[DatabaseRole, Connection]:
    """Each role in turn, connected by a login of its own."""
    return request.param, await log_in(request.param)


async def _may(connection: Connection, statement: str) -> bool:
    """Try a statement that touches no row; whether it was permitted."""
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


async def _columns(connection: Connection) -> dict[str, list[str]]:
    rows = await connection.fetch(
        "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) AS columns"
        " FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity <> 'a' GROUP BY c.relname"
    )
    return {row["relname"]: row["columns"] for row in rows}


async def _rights(connection: Connection, table: str, columns: list[str]) -> str:
    """Return which of insert, update and delete are permitted, on some column at least."""
    tries = {
        "i": [f"INSERT INTO {table} ({one}) SELECT NULL WHERE false" for one in columns],
        "u": [f"UPDATE {table} SET {one} = NULL WHERE false" for one in columns],
        "d": [f"DELETE FROM {table} WHERE false"],
    }
    found = ""
    for letter, statements in tries.items():
        if any([await _may(connection, statement) for statement in statements]):
            found += letter
    return found


async def test_each_role_may_write_what_its_process_writes_and_nothing_else(
    login: tuple[DatabaseRole, Connection],
) -> None:
    role, connection = login

    found = {
        table: await _rights(connection, table, columns)
        for table, columns in (await _columns(connection)).items()
    }

    assert found == {table: rights.get(role, "") for table, rights in EXPECTED.items()}


async def test_every_table_has_its_row(database: Connection) -> None:
    tables = set(await _columns(database))

    assert tables - set(WRITERS) == set(), "runtime/postgres/roles.py says who may write it"


async def test_nobody_but_the_owner_takes_a_guard_away(
    login: tuple[DatabaseRole, Connection],
) -> None:
    _, connection = login

    for table in EXPECTED:
        for statement in (
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"ALTER TABLE {table} DISABLE TRIGGER USER",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
            f"GRANT ALL ON {table} TO CURRENT_USER",
        ):
            # Without any right of its own to hand on, a GRANT warns and gives nothing.
            if not statement.startswith("GRANT"):
                assert not await _may(connection, statement), statement
    assert not await _may(connection, "SET session_replication_role = replica")
    assert not await _may(connection, "CREATE TABLE mine (id int)")
    assert not await _may(
        connection, "CREATE OR REPLACE FUNCTION clock_us() RETURNS bigint RETURN 1"
    )


async def test_what_is_append_only_is_changed_by_no_role(
    login: tuple[DatabaseRole, Connection],
) -> None:
    _, connection = login

    for table in _APPEND_ONLY:
        assert not await _may(connection, f"DELETE FROM {table}")
        for column in (await _columns(connection))[table]:
            assert not await _may(connection, f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize(
    ("column", "may"),
    [
        ("balance", {_P}),
        ("version", {_P}),
        ("held", {_P, _R}),
        ("forced_overdraft", {_P}),
        ("overdraft_limit", {_I}),
        ("status", {_I}),
        ("owner_id", set()),
        ("currency", set()),
        ("kind", set()),
        ("id", set()),
    ],
)
async def test_only_the_processor_writes_balances(
    log_in: Login, column: str, may: set[DatabaseRole]
) -> None:
    found = {
        role
        for role in DatabaseRole
        if await _may(await log_in(role), f"UPDATE wallets SET {column} = {column} WHERE false")
    }

    assert found == may


async def test_who_asks_for_a_verification_does_not_say_what_it_came_to(log_in: Login) -> None:
    asking = (
        "INSERT INTO verifications (requested_by) VALUES ('ann') "
        "ON CONFLICT ((ended_at IS NULL)) WHERE ended_at IS NULL DO NOTHING RETURNING id, starts"
    )
    answering = "UPDATE verifications SET ended_at = now(), findings = 0"
    claiming = (
        "INSERT INTO verifications (requested_by, ended_at, findings) VALUES ('ann', now(), 0)"
    )
    found = {
        role: tuple([await _may(await log_in(role), one) for one in (asking, answering, claiming)])
        for role in (_I, _R, _O)
    }

    assert found == {
        _I: (True, False, False),
        _R: (False, True, False),
        _O: (False, False, False),
    }
    for column in ("detail", "found_at"):
        changing = f"UPDATE integrity_findings SET {column} = {column}"
        assert not await _may(await log_in(_R), changing)


async def test_a_wallet_is_made_without_money_in_it(log_in: Login) -> None:
    connection = await log_in(_I)

    empty = await _may(
        connection, "INSERT INTO wallets (id, currency) VALUES (gen_random_uuid(), 'USD')"
    )
    full = await _may(
        connection,
        "INSERT INTO wallets (id, currency, balance) VALUES (gen_random_uuid(), 'USD', 1)",
    )

    assert (empty, full) == (True, False)


async def test_keys_are_read_by_whoever_checks_or_makes_them(
    login: tuple[DatabaseRole, Connection],
) -> None:
    role, connection = login

    assert await _may(connection, "SELECT * FROM api_keys") == (role in {_I, _O})
    # Through it the notifier learns what keys may do, and reads none.
    assert await _may(connection, "SELECT * FROM webhook_rights") == (role is _N)
    for view in ("people_rights", "key_rights"):
        assert await _may(connection, f"SELECT * FROM {view}") == (role is _P)
    assert await _may(connection, "SELECT * FROM transaction_views WHERE false")
    assert await _may(connection, "SELECT * FROM audit_log WHERE false")


async def test_applying_again_takes_away_what_the_table_does_not_say(
    log_in: Login, database_url: str, database: Connection
) -> None:
    await apply_roles(database)
    await database.execute(f"GRANT ALL ON wallets, entries TO {_I}")
    await database.execute(f"GRANT UPDATE (balance) ON wallets TO {_R}")

    again = await apply_roles(database)

    assert again.created == ()
    for role in (_I, _R):
        connection = await log_in(role, database_url)
        assert not await _may(connection, "UPDATE wallets SET balance = 0 WHERE false")


async def test_what_another_role_has_yet_to_commit_is_passed_over_by_nobody(
    log_in: Login, books: str
) -> None:
    """The reconciler sees since when it runs; whoever does not see it passes nothing."""
    query = load_queries("reconciler")["read_horizon"]
    writer = await connect(books, name="test")
    reconciler, stranger = await log_in(_R), await log_in(_I)
    async with writer.transaction():
        began = await writer.fetchval("SELECT now() FROM pg_current_xact_id()")
        seen = await reconciler.fetchval(query, 0.0, 30.0)
        blind = await stranger.fetchval(query, 0.0, 30.0)
    free = await stranger.fetchval(query, 0.0, 30.0)

    await writer.close()
    # A draft may be a second older than the statement that records it.
    assert seen == began - timedelta(seconds=1)
    assert blind == datetime(1970, 1, 1, tzinfo=UTC)
    assert free > began
