"""Metadata from before its depth was bounded: shown whole, then replaced, nothing of it lost."""

from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from contracts.representations.event import event_body
from contracts.representations.transaction import render_transaction
from contracts.representations.wallet import render_wallet
from runtime.postgres.pool import Connection, connect
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.upgrade.traffic import flowing

_DEPTH_MAX: Final = 16
_REPLACE: Final = "CALL replace_all_deep_metadata(step => 3)"


def _nested(levels: int, *, is_list: bool = False) -> str:
    """Return an object that is so many levels deep."""
    inner = levels - 1
    if is_list:
        return '{"a":' + "[" * inner + "]" * inner + "}"
    return '{"a":' * inner + "{}" + "}" * inner


def _trap() -> str:
    """Return metadata that is shallow, for all the brackets and quotes in its strings."""
    return orjson.dumps({"a": '{["' * 40, '}\\": [': "\\" * 7}).decode()


async def _store(connection: Connection, table: str, subject: UUID, metadata: str) -> None:
    await connection.execute(
        f"UPDATE {table} SET metadata = $2::text::json WHERE id = $1",
        subject,
        metadata,
    )


async def _metadata(connection: Connection, table: str, subject: UUID) -> str:
    return str(
        await connection.fetchval(
            f"SELECT metadata::text FROM {table} WHERE id = $1",
            subject,
        )
    )


@pytest.fixture
async def ids(database: Connection) -> list[UUID]:
    """Ten recorded transfers."""
    alice, bob = await add_wallets(database, 2, balance=100)
    return await record(database, [transfer_command(uuid4().hex, alice, bob, 1) for _ in range(10)])


async def test_what_is_deeper_than_clients_may_send_is_replaced_and_kept_beside(
    database: Connection, ids: list[UUID]
) -> None:
    stored = {
        ids[0]: _nested(_DEPTH_MAX),
        ids[1]: _nested(_DEPTH_MAX + 1),
        ids[4]: _nested(254),
        ids[5]: _nested(_DEPTH_MAX + 1, is_list=True),
        ids[6]: _nested(_DEPTH_MAX, is_list=True),
        ids[7]: _trap(),
        ids[9]: _nested(700),
    }
    for one, metadata in stored.items():
        await _store(database, "transactions", one, metadata)

    await database.execute(_REPLACE)
    await database.execute(_REPLACE)

    now = {one: await _metadata(database, "transactions", one) for one in stored}
    deep = {ids[1], ids[4], ids[5], ids[9]}
    assert {one: now[one] for one in stored if one not in deep} == {
        one: stored[one] for one in stored if one not in deep
    }
    for one in deep:
        assert orjson.loads(now[one]) == {"_too_deep": stored[one][:1000]}
    kept = await database.fetch("SELECT subject, subject_id, metadata::text FROM deep_metadata")
    assert {(row[0], row[1], row[2]) for row in kept} == {
        ("transaction", one, stored[one]) for one in deep
    }


async def test_wallets_are_treated_alike(database: Connection) -> None:
    flat, deep = await add_wallets(database, 2)
    await _store(database, "wallets", flat, '{"a":1}')
    await _store(database, "wallets", deep, _nested(40))
    version = await database.fetchval("SELECT version FROM wallets WHERE id = $1", deep)

    await database.execute(_REPLACE)

    assert await _metadata(database, "wallets", flat) == '{"a":1}'
    assert "_too_deep" in await _metadata(database, "wallets", deep)
    assert await database.fetchval("SELECT version FROM wallets WHERE id = $1", deep) == version


async def test_it_is_replaced_while_traffic_flows(database_url: str) -> None:
    connection = await connect(database_url, name="migrate")
    async with flowing(database_url) as traffic:
        await traffic.more(100)
        for table in ("transactions", "wallets"):
            await connection.execute(
                f"UPDATE {table} SET metadata = $1::text::json",
                _nested(30),
            )
        await connection.execute("CALL replace_all_deep_metadata(step => 20)")
        await traffic.more(100)
    left = "SELECT count(*) FROM transactions WHERE json_is_deeper_than(metadata::text, 16)"
    assert await connection.fetchval(left) == 0
    assert await connection.fetchval("SELECT count(*) FROM deep_metadata") > 100
    await connection.close()


@pytest.mark.parametrize("levels", [16, 250, 254, 900])
async def test_a_row_is_read_and_told_of_at_any_depth(
    database: Connection, ids: list[UUID], levels: int
) -> None:
    """Between the upgrade and the replacement nothing waits for it: not a list, not an event."""
    metadata = _nested(levels)
    await _store(database, "transactions", ids[0], metadata)
    rows: list[asyncpg.Record] = await database.fetch(
        "SELECT * FROM transaction_views WHERE id = ANY ($1)", ids[:3]
    )
    wallet: dict[str, Any] = {
        **dict(await database.fetchrow("SELECT * FROM wallets LIMIT 1") or {}),
        "metadata": metadata,
    }

    page = orjson.dumps({"items": [render_transaction(row) for row in rows]})
    told = [
        event_body(row, event_id="1", event_type="transaction.failed", occurred_at="now")
        for row in rows
    ]
    wallets = orjson.dumps({"items": [render_wallet(wallet)]})

    assert metadata.encode() in page
    assert sum(metadata.encode() in body for body in told) == 1
    assert metadata.encode() in wallets
