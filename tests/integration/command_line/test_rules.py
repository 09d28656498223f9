"""`ackledger rules` and `ackledger reviews`: added, tried, switched, decided; all with a trail."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from cli.failures import RefusedError
from cli.rules import RuleOrder, add_rule, switch_rule
from ledger.words import RuleAction, RuleKind
from processor.poster import Poster
from runtime.screening.model import RULES_MAX
from tests.conftest import Connection
from tests.integration.command_line.calling import ackledger
from tests.integration.processor.books import (
    add_wallets,
    open_pool,
    record,
    transfer_command,
)
from tests.integration.processor.ruling import add_rule as add_rule_row

pytestmark = pytest.mark.long

_VELOCITY = ("--kind", "velocity", "--by", "wallet", "--window", "1h", "--count-max", "2")


@pytest.fixture
def variables(database_url: str, broker_url: str) -> dict[str, str]:
    """A fresh migrated database, and a broker."""
    return {"DATABASE_URL": database_url, "AMQP_URL": broker_url}


async def test_a_rule_is_added_disabled_and_switched_with_a_trail(
    directory: Path, variables: dict[str, str], database: Connection
) -> None:
    async def call(*arguments: str) -> dict[str, object]:
        called = await ackledger(
            "rules", *arguments, "--json", directory=directory, variables=variables
        )
        assert called.code == 0, called.err
        found: dict[str, object] = called.json
        return found

    added = await call(
        "add", "few", *_VELOCITY, "--sum-max", "EUR=100.50", "--action", "review",
        "--type", "transfer",
    )  # fmt: skip
    enabled = await call("enable", "few")
    again = await call("enable", "few")
    disabled = await call("disable", "few")
    listed = await call("list")

    assert added["is_enabled"] is False
    assert added["parameters"] == {
        "by": "wallet", "window_s": 3600, "count_max": 2, "sum_max": {"EUR": "100.50"},
    }  # fmt: skip
    assert added["applies_to"] == {"types": ["transfer"]}
    assert (enabled["is_enabled"], again, disabled["is_enabled"]) == (True, enabled, False)
    assert listed == {"items": [disabled]}
    trail = await database.fetch("SELECT action, subject FROM audit_log ORDER BY id")
    assert [tuple(row) for row in trail] == [
        ("rule.added", "rule:few"),
        ("rule.enabled", "rule:few"),
        ("rule.disabled", "rule:few"),
    ]
    table = await ackledger("rules", "list", directory=directory, variables=variables)
    assert "few" in table.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("add", "Bad Name", *_VELOCITY, "--action", "flag"), "a name is 1 to 63"),
        (("add", "x", *_VELOCITY, "--action", "flag", "--most", "EUR=1"), "--most: not for"),
        (("add", "x", "--kind", "velocity", "--action", "flag"), "needs --by and --window"),
        (("add", "x", "--kind", "amount", "--action", "flag"), "needs --least, --most"),
        (
            ("add", "x", "--kind", "amount", "--action", "flag", "--most", "EUR=1.234"),
            "EUR has 2 decimals",
        ),
        (
            ("add", "x", "--kind", "amount", "--action", "flag", "--most", "EUR=x"),
            "not a decimal number",
        ),
        (
            (
                *("add", "x", "--kind", "amount", "--action", "flag"),
                *("--most", "EUR=1", "--least", "EUR=2"),
            ),
            "--least is more than --most",
        ),
        (
            ("add", "x", "--kind", "first_destination", "--action", "flag", "--wallet", "none"),
            "--wallet",
        ),
        (
            ("add", "x", *_VELOCITY[:5], "31d", "--count-max", "2", "--action", "flag"),
            "a window is 1m to 30d",
        ),
    ],
)
async def test_what_makes_no_rule_is_wrong_use(
    directory: Path, variables: dict[str, str], arguments: Sequence[str], reason: str
) -> None:
    called = await ackledger("rules", *arguments, directory=directory, variables=variables)

    assert called.code == 2
    assert reason in called.err


async def test_a_name_in_use_and_a_rule_that_is_none_are_refused(
    directory: Path, variables: dict[str, str]
) -> None:
    add = ("rules", "add", "few", *_VELOCITY, "--action", "flag")
    first = await ackledger(*add, directory=directory, variables=variables)
    again = await ackledger(*add, directory=directory, variables=variables)
    none = await ackledger("rules", "enable", "other", directory=directory, variables=variables)

    assert (first.code, again.code, none.code) == (0, 1, 1)
    assert "there is no rule 'other'" in none.err


async def test_no_more_rules_than_the_bound_are_enabled(database: Connection) -> None:
    for number in range(RULES_MAX + 1):
        order = RuleOrder(
            name=f"r{number}", kind=RuleKind.FIRST_DESTINATION, action=RuleAction.FLAG
        )
        await add_rule(database, order, actor="test")
    for number in range(RULES_MAX):
        await switch_rule(database, f"r{number}", is_enabled=True, actor="test")
    with pytest.raises(RefusedError, match="more cannot be"):
        await switch_rule(database, f"r{RULES_MAX}", is_enabled=True, actor="test")


async def test_a_trial_says_what_a_rule_would_have_hit_and_changes_nothing(
    directory: Path, variables: dict[str, str], database: Connection, database_url: str
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    commands = [transfer_command(f"a{n}", alice, bob, 10) for n in range(5)]
    commands += [transfer_command(f"b{n}", bob, alice, 10) for n in range(3)]
    ids = await record(database, commands)
    async with open_pool(database_url) as pool:
        await Poster(pool).post(ids)

    async def trial(name: str, *arguments: str) -> dict[str, object]:
        add = ("rules", "add", name, *arguments, "--action", "refuse")
        added = await ackledger(*add, directory=directory, variables=variables)
        assert added.code == 0, added.err
        tried = await ackledger(
            "rules", "test", name, "--json", directory=directory, variables=variables
        )
        assert tried.code == 0, tried.err
        report: dict[str, object] = tried.json
        return report

    few = await trial("few", *_VELOCITY)
    large = await trial("large", "--kind", "amount", "--most", "USD=0.09")
    new = await trial("new", "--kind", "first_destination")
    before = await ackledger(
        *("rules", "test", "few", "--from", "2020-01-01", "--to", "2020-01-02"),
        directory=directory,
        variables=variables,
    )

    assert (few["transactions"], few["hits"]) == (8, 4)
    assert few["wallets"] == [
        {"wallet_id": str(alice), "hits": 3}, {"wallet_id": str(bob), "hits": 1},
    ]  # fmt: skip
    assert (large["hits"], new["hits"]) == (8, 8)
    assert "would have refused 0 of 0 transactions" in before.out
    assert await database.fetchval("SELECT count(*) FROM rule_counters") == 0


async def test_reviews_are_listed_approved_and_refused(
    directory: Path, variables: dict[str, str], database: Connection, database_url: str
) -> None:
    alice, bob = await add_wallets(database, 2, balance=1000)
    await add_rule_row(database, "large", "amount", {"USD": {"most": 1}}, action="review")
    ids = await record(database, [transfer_command(f"t{n}", alice, bob, 10) for n in range(2)])
    async with open_pool(database_url) as pool:
        await Poster(pool).post(ids)

    async def call(*arguments: str, code: int = 0) -> str:
        called = await ackledger("reviews", *arguments, directory=directory, variables=variables)
        assert called.code == code, called.err
        return called.out or called.err

    open_ids = await _open(database)
    assert str(open_ids[0]) in await call("list", "--state", "OPEN")
    approved = await call("approve", str(open_ids[0]), "--reason", "known")
    refused = await call("refuse", str(open_ids[1]), "--reason", "unknown", "--json")
    again = await call("refuse", str(open_ids[1]), "--reason", "unknown", code=1)
    await call("approve", "none", "--reason", "known", code=2)
    async with open_pool(database_url) as pool:
        await Poster(pool).post(ids)

    assert approved == f"{ids[0]}: APPROVED, PENDING\n"
    assert '"transaction_status": "FAILED"' in refused
    assert "it was REFUSED before" in again
    statuses = await database.fetch("SELECT status::text FROM transactions ORDER BY id")
    assert [row[0] for row in statuses] == ["COMPLETED", "FAILED"]


async def _open(database: Connection) -> list[UUID]:
    rows = await database.fetch("SELECT id FROM reviews WHERE state = 'OPEN' ORDER BY id")
    return [row["id"] for row in rows]
