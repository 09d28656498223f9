"""Upstream's moves are recorded by the statement that posts them, and each key counts once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from contracts.messages import Recorded
from contracts.record import Submission
from ledger.words import FailureCode
from processor.deciding import WalletCache
from processor.drafting import OLD_AFTER_S, Drafts
from processor.intake import Delivery, Item
from processor.pipeline import Batch
from processor.poster import BatchResult, Loaded, Poster
from processor.writing import FEW_MAX
from reconciler.retry_queue import READER_AFTER_S
from runtime.amqp.incoming import DeliveringChannel, Properties
from runtime.postgres.pool import Connection, Pool, connect
from runtime.postgres.queries import load_queries
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    recorded,
    transfer_command,
)
from tests.integration.processor.ruling import add_rule, velocity
from tests.integration.processor.waiting import kept, until_wait

COUNT = FEW_MAX + 4
"""Of fewer each is recorded before it is posted."""
_ROWS = """
    SELECT t.id, t.idempotency_key AS key, t.status::text, t.failure_code::text, t.channel::text,
        t.created_at, t.completed_at, t.xmin = e.xmin AS is_one_commit
    FROM transactions AS t
    LEFT JOIN LATERAL (
        SELECT one.xmin FROM entries AS one WHERE one.transaction_id = t.id LIMIT 1
    ) AS e ON TRUE
    ORDER BY t.id
"""
_RECORD = """
    SELECT id FROM record_transactions(
        'http', ARRAY[$1], ARRAY[$2], ARRAY[''::bytea], ARRAY['transfer'], ARRAY[$3::uuid],
        ARRAY[$4::uuid], ARRAY[1], ARRAY['USD'], ARRAY[NULL], ARRAY[NULL], ARRAY[NULL], ARRAY[NULL]
    )
"""


def _asked(prefix: str, source: UUID, destination: UUID, *, count: int = COUNT) -> list[Submission]:
    return [
        Submission("shop", transfer_command(f"{prefix}-{n:03}", source, destination, 1))
        for n in range(count)
    ]


def _poster(pool: Pool) -> Poster:
    return Poster(pool, wallet_cache=WalletCache())


async def _drafted(poster: Poster, items: Sequence[Submission]) -> Loaded:
    loaded = await poster.load(items)
    assert _drafts_of(loaded).ids
    return loaded


def _drafts_of(loaded: Loaded) -> Drafts:
    drafts = loaded.batch.drafts
    assert drafts is not None
    return drafts


def _ids(result: BatchResult) -> list[UUID]:
    return [one.transaction_id for one in recorded(result.outcomes)]


async def test_moves_are_recorded_and_posted_in_one_commit(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)

    result = await poster.post(items, loaded=await _drafted(poster, items))

    rows = await database.fetch(_ROWS)
    assert [row["id"] for row in rows] == _ids(result)
    assert [row["key"] for row in rows] == [one.command.idempotency_key for one in items]
    assert {(row["status"], row["channel"], row["is_one_commit"]) for row in rows} == {
        ("COMPLETED", "amqp", True)
    }
    assert all(row["created_at"] <= row["completed_at"] for row in rows)
    assert await balances_of(database, [alice, bob]) == [0, 2 * COUNT]
    assert await database.fetchval("SELECT count(*) FROM entries") == 2 * COUNT


async def test_what_is_refused_is_recorded_with_its_reason(
    database: Connection, pool: Pool
) -> None:
    alice, bob, poor = await add_wallets(database, 3, balance=COUNT)
    await database.execute("UPDATE wallets SET status = 'FROZEN' WHERE id = $1", poor)
    items = [
        one
        for pair in zip(_asked("a", alice, bob), _asked("b", poor, bob), strict=True)
        for one in pair
    ]
    poster = _poster(pool)
    loaded = await _drafted(poster, items)

    result = await poster.post(items, loaded=loaded)

    rows = await database.fetch(_ROWS)
    assert [row["id"] for row in rows] == _ids(result) == _drafts_of(loaded).ids
    assert [row["key"] for row in rows] == [one.command.idempotency_key for one in items]
    told = {(row["key"][0], row["status"], row["failure_code"]) for row in rows}
    assert told == {("a", "COMPLETED", None), ("b", "FAILED", "wallet_frozen")}
    assert await balances_of(database, [alice, bob, poor]) == [0, 2 * COUNT, COUNT]


async def test_few_and_what_stands_twice_are_recorded_first(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    poster = _poster(pool)
    items = _asked("a", alice, bob)

    few = await poster.load(items[:FEW_MAX])
    twice = await poster.load([*items, items[-1]])
    several = await Poster(pool, partitions=2, wallet_cache=WalletCache()).load(
        _asked("b", alice, bob)
    )
    without_memory = await Poster(pool).load(_asked("c", alice, bob))

    assert [one.batch.drafts for one in (few, twice, several, without_memory)] == [None] * 4
    assert await database.fetchval("SELECT count(*) FROM transactions") == 3 * COUNT


async def test_a_key_that_was_used_before_stands_for_what_it_stood_for(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)
    first = await poster.post(items, loaded=await _drafted(poster, items))
    again = [*_asked("b", bob, alice), *items]

    loaded = await poster.load(again)
    result = await poster.post(again, loaded=loaded)

    assert loaded.batch.drafts is None
    assert _ids(result)[COUNT:] == _ids(first)
    assert await balances_of(database, [alice, bob]) == [COUNT, COUNT]


@pytest.mark.parametrize("by", ["shop", "other"])
async def test_a_key_that_is_used_meanwhile_is_found_by_the_write(
    database: Connection, pool: Pool, by: str
) -> None:
    """Of one submitter it is the same key; another's is its own."""
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)
    loaded = await _drafted(poster, items)
    used = await database.fetchval(_RECORD, by, "a-003", bob, alice)

    outcomes = recorded((await poster.post(items, loaded=loaded)).outcomes)

    reused = [(one.transaction_id, one.is_key_reused) for one in outcomes if one.is_key_reused]
    assert reused == ([(used, True)] if by == "shop" else [])
    moved = COUNT - len(reused)
    assert await balances_of(database, [alice, bob]) == [COUNT - moved, COUNT + moved]
    assert await database.fetchval("SELECT count(*) FROM transactions") == moved + 1


def _batch(items: Sequence[Item], poster: Poster) -> Batch:
    channel = cast(DeliveringChannel, None)
    properties = Properties(b"")
    content = Recorded([])
    return Batch([Delivery(channel, 1, b"", properties, content, list(items))], poster)


@pytest.mark.parametrize("beside", ["nothing", "a key twice", "an id"])
async def test_what_has_a_key_of_drafts_is_not_read_before_they_are_written(
    database: Connection, pool: Pool, beside: str
) -> None:
    """It would be recorded before them, or be a draft that cannot be written."""
    alice, bob = await add_wallets(database, 2, balance=2 * COUNT)
    first, poster = _asked("a", alice, bob), _poster(pool)
    later = Submission("shop", transfer_command("a-003", bob, alice, 7))
    second: list[Item] = [later, *_asked("b", alice, bob)]
    if beside == "a key twice":
        second.append(second[-1])
    elif beside == "an id":
        second.append(await database.fetchval(_RECORD, "web", "h", alice, bob))
    before = await _drafted(poster, first)
    behind = _batch(second, poster)

    behind.begin_to_read(behind=before)
    loaded = await behind.loaded()
    of_first = await poster.post(first, loaded=before)
    behind.begin_to_read()
    of_second = await poster.post(second, loaded=await behind.loaded())

    assert loaded is None
    assert not any(one.is_key_reused for one in recorded(of_first.outcomes))
    [reused, *others] = recorded(of_second.outcomes)
    assert reused == (_ids(of_first)[3], True, None)
    assert not any(one.is_key_reused for one in others)


async def test_what_has_other_keys_than_drafts_is_read_behind_them(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=2 * COUNT)
    poster = _poster(pool)
    before = await _drafted(poster, _asked("a", alice, bob))
    behind = _batch(_asked("b", alice, bob), poster)

    behind.begin_to_read(behind=before)

    assert await behind.loaded() is not None


async def test_of_two_batches_with_the_same_keys_the_first_counts(
    database: Connection, database_url: str, pool: Pool
) -> None:
    """Where the second was drafted all the same, by a processor that took over."""
    alice, bob = await add_wallets(database, 2, balance=2 * COUNT)
    first, poster = _asked("a", alice, bob), _poster(pool)
    second = [*_asked("b", bob, alice), *first]
    before = await _drafted(poster, first)
    behind = await _drafted(poster, second)
    async with kept(database_url, bob):
        posting = asyncio.create_task(poster.post(first, loaded=before))
        await until_wait(database, 1)
        poster.decide_ahead(behind, behind=before)
        assert behind.ahead is not None
    of_first = await posting
    of_second = await poster.post(second, loaded=behind)

    assert _ids(of_second)[COUNT:] == _ids(of_first)
    assert len(of_second.posting.posted) == COUNT
    assert await balances_of(database, [alice, bob]) == [2 * COUNT, 2 * COUNT]
    assert await database.fetchval("SELECT count(*) FROM entries") == 4 * COUNT


@pytest.mark.parametrize(
    ("of_whom", "second"), [("drafted_at", timedelta(seconds=1)), ("asked_at_s", 1.0)]
)
@pytest.mark.parametrize("is_decided", [False, True])
async def test_drafts_that_grew_old_are_recorded_first(
    database: Connection,
    pool: Pool,
    of_whom: str,
    second: Any,
    is_decided: bool,  # noqa: FBT001
) -> None:
    """Whoever walks over the ids has passed theirs, by the server's clock or by ours."""
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)
    loaded = await _drafted(poster, items)
    drafts = _drafts_of(loaded)
    old = replace(drafts, **{of_whom: getattr(drafts, of_whom) - 0.6 * second})
    loaded.batch = replace(loaded.batch, drafts=old)
    if is_decided:
        loaded.decided = poster._decide(loaded)

    result = await poster.post(items, loaded=loaded)

    rows = await database.fetch(_ROWS)
    assert [row["id"] for row in rows] == _ids(result)
    assert set(_ids(result)).isdisjoint(drafts.ids)
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert await balances_of(database, [alice, bob]) == [0, 2 * COUNT]


async def test_a_rule_that_comes_meanwhile_is_asked(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)
    loaded = await _drafted(poster, items)
    await add_rule(database, "few-an-hour", "velocity", velocity("wallet", count_max=3))

    result = await poster.post(items, loaded=loaded)

    codes = {one.code for one in result.posting.refused}
    assert (len(result.posting.posted), codes) == (3, {FailureCode.RULE_REFUSED})
    assert await balances_of(database, [alice, bob]) == [COUNT - 3, COUNT + 3]


async def test_a_restricted_submitter_is_judged(database: Connection, pool: Pool) -> None:
    mine, theirs = await add_wallets(database, 2, balance=COUNT)
    await database.execute("UPDATE wallets SET created_by = 'shop' WHERE id = $1", mine)
    await database.execute("INSERT INTO clients (name) VALUES ('shop')")
    items, poster = [*_asked("a", mine, theirs), *_asked("b", theirs, mine)], _poster(pool)

    result = await poster.post(items, loaded=await _drafted(poster, items))

    codes = {one.code for one in result.posting.refused}
    assert (len(result.posting.posted), codes) == (COUNT, {FailureCode.WALLET_NOT_FOUND})
    assert await balances_of(database, [mine, theirs]) == [0, 2 * COUNT]


async def test_a_wallet_that_is_gone_meanwhile_is_found_missing(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)
    loaded = await _drafted(poster, items)
    await database.execute("DELETE FROM wallets WHERE id = $1", bob)

    result = await poster.post(items, loaded=loaded)

    codes = {one.code for one in result.posting.refused}
    assert (len(result.posting.posted), codes) == (0, {FailureCode.WALLET_NOT_FOUND})
    assert await database.fetchval("SELECT count(*) FROM transactions") == COUNT


async def test_the_horizon_stays_a_second_before_whoever_writes(
    database: Connection, database_url: str
) -> None:
    writer = await connect(database_url, name="writer")
    async with writer.transaction():
        began = await writer.fetchval("SELECT transaction_timestamp() FROM pg_current_xact_id()")
        row = await database.fetchrow(
            load_queries("reconciler")["read_horizon"], 1.0, READER_AFTER_S
        )
    await writer.close()

    # Twice as far as the oldest draft that `write_batch_in_turn` takes, or `are_old` lets go.
    assert 2 * OLD_AFTER_S < 1
    assert row is not None
    assert row["horizon"] <= began - timedelta(seconds=1)


async def test_what_ended_as_it_was_recorded_is_counted(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=COUNT)
    items, poster = _asked("a", alice, bob), _poster(pool)

    await poster.post(items, loaded=await _drafted(poster, items))

    assert await database.fetchval("SELECT drafts FROM posting_turn") == COUNT
