"""Rules in the posting transaction: what they refuse, flag and hold back, and what they count."""

import asyncio
from collections import Counter
from uuid import UUID, uuid4

import pytest

from contracts.record import Submission
from processor.deciding import WalletCache
from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool
from runtime.resilience.error_classification import is_transient
from runtime.screening.watch import CurrentRules
from runtime.service.fault_points import FaultPoint, FaultPoints
from tests.integration.processor.books import (
    add_wallets,
    balances_of,
    record,
    transfer_command,
)
from tests.integration.processor.ruling import add_rule, enforce, limit_client, velocity


async def _outcomes(database: Connection, ids: list[UUID]) -> list[str]:
    """Return each transaction's failure code, or its status where it has none."""
    rows = await database.fetch(
        "SELECT id, coalesce(failure_code::text, status::text) AS outcome FROM transactions"
    )
    by_id = {row["id"]: row["outcome"] for row in rows}
    return [by_id[one] for one in ids]


async def _count(database: Connection, *, measure: str = "") -> int:
    total: int | None = await database.fetchval(
        "SELECT sum(one::bigint)::bigint "
        "FROM rule_counters, unnest(string_to_array(amounts, ',')) AS one "
        "WHERE split_part(key, '|', 2) = $1",
        measure,
    )
    return total or 0


async def test_a_velocity_rule_refuses_what_is_too_many_and_says_which_rule_it_was(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "few-an-hour", "velocity", velocity("wallet", count_max=2))
    ids = await record(database, [transfer_command(f"t{n}", alice, bob, 10) for n in range(4)])
    result = await Poster(pool).post(ids)

    assert await _outcomes(database, ids) == ["COMPLETED"] * 2 + ["rule_refused"] * 2
    assert result.posting.refused[0].detail == "the rule 'few-an-hour' refuses the transaction"
    assert (
        await database.fetchval("SELECT failure_detail FROM transactions WHERE id = $1", ids[2])
        == "the rule 'few-an-hour' refuses the transaction"
    )
    assert await balances_of(database, [alice, bob]) == [980, 1020]
    assert await _count(database) == 2


async def test_what_the_ledger_refuses_counts_for_nothing(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    await add_rule(database, "sum", "velocity", velocity("wallet", sum_max={"USD": 100}))
    ids = await record(
        database,
        [
            transfer_command("too-much", alice, bob, 101),
            transfer_command("fits", alice, bob, 60),
            transfer_command("over", alice, bob, 40 + 1),
            transfer_command("just", alice, bob, 40),
        ],
    )
    await Poster(pool).post(ids)

    outcomes = await _outcomes(database, ids)
    assert outcomes == ["insufficient_funds", "COMPLETED", "insufficient_funds", "COMPLETED"]
    assert await _count(database, measure="USD") == 100


async def test_posting_again_under_a_rule_counts_nothing_twice(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "many", "velocity", velocity("client", count_max=3))
    ids = await record(database, [transfer_command(f"t{n}", alice, bob, 10) for n in range(3)])
    poster = Poster(pool)
    raced = await asyncio.gather(*(poster.post(ids) for _ in range(6)), return_exceptions=True)
    await poster.post(ids)

    # Who posts the same at once may be asked to try again, as ever.
    assert all(is_transient(one) for one in raced if isinstance(one, BaseException))

    assert await _outcomes(database, ids) == ["COMPLETED"] * 3
    assert await _count(database) == 3


async def test_a_batch_that_was_undone_has_counted_nothing(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "many", "velocity", velocity("wallet", count_max=1))
    ids = await record(database, [transfer_command("fails", alice, bob, 30)])
    # The entry that the transaction would become is there already: posting would double it.
    await database.execute("INSERT INTO entries VALUES ($1, 1, $2, 0, 100, now())", alice, uuid4())
    with pytest.raises(Exception, match="entries_pkey"):
        await Poster(pool).post(ids)
    await database.execute("UPDATE wallets SET version = 1 WHERE id = $1", alice)
    await Poster(pool).post(ids)

    assert await _outcomes(database, ids) == ["COMPLETED"]


async def test_processors_that_race_never_share_the_last_place_of_a_rule(
    database: Connection, pool: Pool
) -> None:
    wallets = await add_wallets(database, 16, balance=1000)
    await add_rule(database, "ten", "velocity", velocity("client", count_max=10))
    ids = await record(
        database,
        [transfer_command(f"t{n}", wallets[n % 8], wallets[8 + n % 8], 1) for n in range(40)],
    )
    await asyncio.gather(*(Poster(pool).post([one]) for one in ids))

    outcomes = Counter(await _outcomes(database, ids))
    assert outcomes == {"COMPLETED": 10, "rule_refused": 30}
    assert await _count(database) == 10


async def test_a_rule_that_was_enabled_is_enforced_on_a_batch_decided_without_it(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    poster = Poster(pool, wallet_cache=WalletCache(), rules=CurrentRules())
    warm = await record(database, [transfer_command("warm", alice, bob, 10)])
    await poster.post(warm)
    ids = await record(database, [transfer_command("large", alice, bob, 500)])
    loaded = await poster.load(ids)
    await add_rule(database, "large", "amount", {"USD": {"most": 100}})
    await poster.post(ids, loaded=loaded)

    assert await _outcomes(database, ids) == ["rule_refused"]


async def test_a_change_of_the_rules_leaves_its_announced_delay(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    poster = Poster(pool)
    await add_rule(database, "large", "amount", {"USD": {"most": 100}})
    await database.execute(
        "UPDATE rules_versions SET enforced_from = clock_timestamp() + interval '1 minute'"
    )
    ids = await record(database, [transfer_command("before", alice, bob, 500)])
    await poster.post(ids)
    await enforce(database)
    late = await record(database, [transfer_command("after", alice, bob, 500)])
    await poster.post(late)

    assert await _outcomes(database, [*ids, *late]) == ["COMPLETED", "rule_refused"]


async def test_amount_bounds_apply_to_what_they_name_alone(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule(
        database, "bounds", "amount", {"USD": {"least": 5, "most": 100}}, wallets=[alice]
    )
    ids = await record(
        database,
        [
            transfer_command("small", alice, bob, 4),
            transfer_command("least", alice, bob, 5),
            transfer_command("most", alice, bob, 100),
            transfer_command("large", alice, bob, 101),
            transfer_command("other", bob, alice, 101),
        ],
    )
    await Poster(pool).post(ids)

    assert await _outcomes(database, ids) == [
        "rule_refused", "COMPLETED", "COMPLETED", "rule_refused", "COMPLETED",
    ]  # fmt: skip


async def test_the_first_payment_to_a_destination_is_flagged_and_posted(
    database: Connection, pool: Pool
) -> None:
    alice, bob, carol = await add_wallets(database, 3, balance=1000)
    before = await record(database, [transfer_command("old", alice, carol, 1)])
    await Poster(pool).post(before)
    await add_rule(database, "new", "first_destination", {}, action="flag")
    ids = await record(
        database,
        [
            transfer_command("first", alice, bob, 1),
            transfer_command("second", alice, bob, 1),
            transfer_command("known", alice, carol, 1),
            transfer_command("back", carol, alice, 1),
        ],
    )
    await Poster(pool).post(ids)
    again = await record(database, [transfer_command("third", alice, bob, 1)])
    await Poster(pool).post(again)

    assert await _outcomes(database, [*ids, *again]) == ["COMPLETED"] * 5
    flagged = await database.fetch("SELECT transaction_id FROM flags ORDER BY 1")
    assert [row[0] for row in flagged] == [ids[0], ids[3]]


async def test_owners_count_over_all_of_their_wallets(database: Connection, pool: Pool) -> None:
    *wallets, other = await add_wallets(database, 4, balance=1000)
    await database.execute("UPDATE wallets SET owner_id = 'alice' WHERE id = ANY ($1)", wallets[:2])
    await add_rule(database, "owner", "velocity", velocity("owner", count_max=2))
    ids = await record(
        database,
        [transfer_command(f"t{n}", wallets[n % 3], other, 1) for n in range(6)],
    )
    await Poster(pool).post(ids)

    outcomes = await _outcomes(database, ids)
    assert outcomes == [
        "COMPLETED", "COMPLETED", "COMPLETED", "rule_refused", "rule_refused", "COMPLETED",
    ]  # fmt: skip


async def test_a_clients_limits_hold_for_one_transaction_and_for_the_day(
    database: Connection, pool: Pool
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await limit_client(database, "shop", per_transaction={"USD": 100}, daily={"USD": 250})
    amounts = [101, 100, 100, 51, 50, 1]
    commands = [transfer_command(f"t{n}", alice, bob, one) for n, one in enumerate(amounts)]
    poster = Poster(pool)
    await poster.post([Submission("shop", one) for one in commands])
    free = await record(database, [transfer_command("free", alice, bob, 300)])
    await poster.post(free)

    rows = await database.fetch(
        "SELECT coalesce(failure_code::text, status::text) AS outcome, failure_detail "
        "FROM transactions ORDER BY idempotency_key"
    )
    assert [row["outcome"] for row in rows] == [
        "COMPLETED", "limit_exceeded", "COMPLETED", "COMPLETED", "limit_exceeded", "COMPLETED",
        "limit_exceeded",
    ]  # fmt: skip
    assert {row["failure_detail"] for row in rows} == {
        None,
        "the client's limit for one transaction is exceeded",
        "the client's limit for a day is exceeded",
    }


async def test_a_window_forgets_what_left_it(database: Connection, pool: Pool) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "hour", "velocity", velocity("wallet", count_max=1))
    first = await record(database, [transfer_command("first", alice, bob, 1)])
    await Poster(pool).post(first)
    # A ring of thirteen buckets of five minutes: twelve are still in the window, thirteen are not.
    await database.execute("UPDATE rule_counters SET bucket = bucket - 12")
    second = await record(database, [transfer_command("second", alice, bob, 1)])
    await Poster(pool).post(second)
    await database.execute("UPDATE rule_counters SET bucket = bucket - 1")
    third = await record(database, [transfer_command("third", alice, bob, 1)])
    await Poster(pool).post(third)

    assert await _outcomes(database, [*first, *second, *third]) == [
        "COMPLETED", "rule_refused", "COMPLETED",
    ]  # fmt: skip


class _Crash(FaultPoints):
    """Ends the first batch just before its commit, with all of it written."""

    def __init__(self) -> None:
        self.is_over = False

    async def reach(self, point: FaultPoint) -> None:
        if point is FaultPoint.PROCESSOR_BEFORE_COMMIT and not self.is_over:
            self.is_over = True
            raise ConnectionResetError("a crash")


@pytest.mark.parametrize("action", ["refuse", "flag", "review"])
async def test_a_crash_before_the_commit_has_counted_noted_and_held_back_nothing(
    database: Connection, pool: Pool, action: str
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule(database, "one", "velocity", velocity("wallet", count_max=1), action=action)
    ids = await record(database, [transfer_command(f"t{n}", alice, bob, 10) for n in range(2)])
    rules = CurrentRules()
    await rules.read(database)
    poster = Poster(pool, rules=rules, fault_points=_Crash())
    with pytest.raises(ConnectionResetError):
        await poster.post(ids)
    before = await database.fetchrow(
        "SELECT (SELECT count(*) FROM flags), (SELECT count(*) FROM reviews), "
        "(SELECT count(*) FROM rule_counters)"
    )
    await poster.post(ids)
    await poster.post(ids)

    assert before is not None
    assert tuple(before) == (0, 0, 0)
    second = {"refuse": "rule_refused", "flag": "COMPLETED", "review": "PENDING"}[action]
    assert await _outcomes(database, ids) == ["COMPLETED", second]
    assert await _count(database) == (2 if action == "flag" else 1)
    assert await database.fetchval("SELECT count(*) FROM flags") == (action == "flag")
    assert await database.fetchval("SELECT count(*) FROM reviews") == (action == "review")
