"""Small files through the doors: order, bad rows, faults, and what the command says of them."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest

from cli.clients.addresses import Addresses
from cli.replay.tally import Tally
from tests.conftest import Doors
from tests.end_to_end.replay.conftest import Replay, Verified, replay_file
from tests.support import eventually
from tools.chaos.proxy import Proxy

pytestmark = pytest.mark.long

Via = Literal["http", "amqp"]
BOTH = pytest.mark.parametrize("via", ["http", "amqp"])


def ledger_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def world() -> dict[str, Any]:
    """Keys and wallets that no other test has."""
    return {"makes_wallets": True, "currency": "EUR", "key_prefix": f"{uuid4().hex}-"}


def row(key: str, kind: str, amount: str, **accounts: str) -> dict[str, str]:
    return {"idempotency_key": key, "type": kind, "amount": amount, **accounts}


def ladder(accounts: int, steps: int) -> list[Mapping[str, Any]]:
    """Each account is paid 1.00 and pays it out at once: in any other order it is refused."""
    return [
        row(f"{account}-{step}-{kind}", kind, "1.00", wallet=f"account-{account}")
        for step in range(steps)
        for kind in ("deposit", "withdrawal")
        for account in range(accounts)
    ]


@BOTH
@pytest.mark.parametrize("batch", [1, 7])
async def test_every_wallet_s_rows_are_posted_in_the_order_of_the_file(
    via: Via, batch: int, tmp_path: Path, replay: Replay
) -> None:
    file = ledger_file(tmp_path / "ladder.jsonl", ladder(accounts=12, steps=20))

    tally = await replay(file, via, mapping=world(), batch=batch, connections=16)

    assert (tally.completed, tally.refused) == (480, {})


@BOTH
async def test_a_wallet_that_a_transfer_credits_sees_the_file_s_order(
    via: Via, tmp_path: Path, replay: Replay
) -> None:
    rows = []
    for step in range(10):
        # Bob is never paid before he asks for less: in any other order he is refused at times.
        rows += [
            row(f"{step}-in", "deposit", "4.00", wallet="alice"),
            row(f"{step}-over", "transfer", "4.00", wallet="alice", destination_wallet_id="bob"),
            row(f"{step}-bob", "withdrawal", "3.50", wallet="bob"),
            row(f"{step}-alice", "withdrawal", "1.00", wallet="alice"),
        ]
    file = ledger_file(tmp_path / "credits.jsonl", rows)

    # Over HTTP one run in six was wrong while only the debited wallet's order was kept.
    for _ in range(25 if via == "http" else 3):
        tally = await replay(file, via, mapping=world())

        assert (tally.completed, tally.refused) == (30, {"insufficient_funds": 10})


@BOTH
async def test_a_wallet_is_not_paid_by_a_transfer_that_comes_later_in_the_file(
    via: Via, tmp_path: Path, replay: Replay
) -> None:
    file = ledger_file(
        tmp_path / "later.jsonl",
        [
            row("in", "deposit", "4.00", wallet="alice"),
            row("bob", "withdrawal", "3.50", wallet="bob"),
            row("over", "transfer", "4.00", wallet="alice", destination_wallet_id="bob"),
        ],
    )

    for batch in (1, 100):
        tally = await replay(file, via, mapping=world(), batch=batch)

        assert (tally.completed, tally.refused) == (2, {"insufficient_funds": 1})


@BOTH
async def test_transfers_between_accounts_move_money_between_their_wallets(
    via: Via, tmp_path: Path, replay: Replay, doors: Doors
) -> None:
    alice, bob = (f"{name}-{uuid4().hex}" for name in ("alice", "bob"))
    paid = ledger_file(tmp_path / "in.jsonl", [row("in", "deposit", "100.00", wallet=alice)])
    moved = ledger_file(
        tmp_path / "move.jsonl",
        [
            row("move", "transfer", "30.25", source_wallet_id=alice, destination_wallet_id=bob),
            row("back", "transfer", "99.99", source_wallet_id=alice, destination_wallet_id=bob),
        ],
    )
    mapping = world()
    await replay(paid, via, mapping=mapping)

    tally = await replay(moved, via, mapping=mapping)

    assert (tally.completed, tally.refused) == (1, {"insufficient_funds": 1})
    assert await owned(doors, alice) == "69.75"
    assert await owned(doors, bob) == "30.25"


async def owned(doors: Doors, owner_id: str) -> str:
    [wallet] = (await doors.api.get("/v1/wallets", owner_id=owner_id)).json["items"]
    return str(wallet["balance"])


async def test_a_row_with_deep_metadata_costs_nobody_else_anything(
    tmp_path: Path, addresses: Addresses
) -> None:
    deep: Any = 1
    for _ in range(254):
        deep = {"a": deep}
    rows: list[dict[str, Any]] = [row(f"k{n}", "deposit", "1.00", wallet="a") for n in range(3)]
    rows[1]["metadata"] = deep
    file = ledger_file(tmp_path / "deep.jsonl", rows)

    code, output, errors = await replay_file(
        *(str(file), "--wallets", "create", "--currency", "EUR", "--json"),
        *("--key-prefix", f"{uuid4().hex}-"),
        addresses=addresses,
    )

    summary = json.loads(output)
    bad = summary["invalid"] + sum(summary["problems"].values())
    assert (summary["rows"], summary["new"] + bad) == (3, 3)
    assert summary["new"] >= 2
    assert code == (1 if bad else 0)
    assert "Traceback" not in errors


async def test_rows_of_a_request_that_is_refused_as_a_whole_are_sent_one_by_one(
    tmp_path: Path, replay: Replay
) -> None:
    # The door takes a thousand at once.
    rows = [row(f"k{n}", "deposit", "1.00", wallet="a") for n in range(1001)]

    tally = await replay(ledger_file(tmp_path / "a.jsonl", rows), mapping=world(), batch=1001)

    assert (tally.new, tally.completed, tally.problems) == (1001, 1001, {})


async def test_a_header_without_a_required_column_is_wrong_use_before_any_door_is_opened(
    tmp_path: Path,
) -> None:
    file = tmp_path / "no-key.csv"
    file.write_text("type,amount,currency,wallet\ndeposit,1.00,EUR,a\n", encoding="utf-8")
    silent = Addresses(
        http_url="http://127.0.0.1:9", api_key="x", upstream_amqp_url="amqp://u:p@127.0.0.1:9/"
    )

    for via in ("http", "amqp"):
        code, output, errors = await replay_file(
            str(file), "--via", via, "--wallets", "create", addresses=silent
        )

        assert (code, output) == (2, "")
        assert "no column 'idempotency_key'" in errors


@BOTH
async def test_a_bad_row_is_told_with_its_line_and_stops_nobody(
    via: Via, tmp_path: Path, replay: Replay
) -> None:
    good = [row(f"good-{n}", "deposit", "1.00", wallet="a") for n in range(3)]
    bad = [row("bad-1", "deposit", "1.005", wallet="a"), row("bad-2", "gift", "1.00", wallet="a")]
    file = ledger_file(tmp_path / "mixed.jsonl", [good[0], bad[0], good[1], bad[1], good[2]])

    tally = await replay(file, via, mapping=world())

    assert (tally.completed, tally.invalid) == (3, 2)
    assert [(one.line, one.reason.split(";")[0]) for one in tally.listed] == [
        (2, "the amount '1.005' has 3 decimals, EUR has 2"),
        (4, "'gift' is no type"),
    ]
    assert not tally.is_well(allow_refusals=True)


@BOTH
async def test_a_key_that_stands_for_other_content_is_a_problem_of_its_row(
    via: Via, tmp_path: Path, replay: Replay
) -> None:
    rows = [row("k", "deposit", amount, wallet="a") for amount in ("1.00", "2.00", "1.0")]
    rows.append(row("k", "deposit", "1.00", wallet="b"))

    tally = await replay(ledger_file(tmp_path / "keys.jsonl", rows), via, mapping=world())

    assert (tally.new, tally.replays, tally.completed) == (1, 1, 1)
    assert tally.problems == {"idempotency_key_reused": 2}
    assert sorted(one.line for one in tally.listed) == [2, 4]


async def test_both_doors_tell_of_the_same_conflicts_with_the_same_exit_code(
    tmp_path: Path, addresses: Addresses
) -> None:
    details = {"metadata": {"n": [1.5, "x"]}, "description": "caf\u00e9"}

    def file(amount: str, *, rows: int = 60) -> str:
        return str(
            ledger_file(
                tmp_path / f"{amount}.jsonl",
                [
                    {**row(f"r{n}", "deposit", amount, wallet=f"account-{n % 7}"), **details}
                    for n in range(rows)
                ],
            )
        )

    options = ["--wallets", "create", "--currency", "EUR", "--wait", "--json"]
    options += ["--key-prefix", f"{uuid4().hex}-"]
    counted = ("rows", "new", "replays", "completed", "refused", "problems")
    seen = []
    for amount, rows, via in (
        *(("1.00", 30, via) for via in ("amqp", "http")),
        *(("2.00", 60, via) for via in ("amqp", "http")),
    ):
        code, output, errors = await replay_file(
            file(amount, rows=rows), "--via", via, *options, addresses=addresses
        )
        assert "Traceback" not in errors
        summary = json.loads(output)
        seen.append((code, *(summary[name] for name in counted)))
    again = await replay_file(file("2.00"), "--via", "amqp", *options, addresses=addresses)

    reused = {"idempotency_key_reused": 30}
    assert seen == [
        (0, 30, 30, 0, 30, {}, {}),
        (0, 30, 0, 30, 0, {}, {}),
        (1, 60, 30, 0, 30, {}, reused),
        (1, 60, 0, 30, 0, {}, reused),
    ]
    assert again[0] == 1
    listed = json.loads(again[1])["listed"]
    lines = [one["line"] for one in listed]
    assert (len(lines), lines) == (20, sorted(lines))
    assert {one["reason"] for one in listed} == {
        "idempotency_key_reused: the key was already used with different content"
    }


async def test_wallet_ids_need_no_accounts_and_amqp_without_waiting_no_http(
    tmp_path: Path, replay: Replay, doors: Doors, addresses: Addresses
) -> None:
    wallet = await doors.api.create_wallet("EUR")
    deposit = row(uuid4().hex, "deposit", "5.00", destination_wallet_id=wallet)
    file = ledger_file(tmp_path / "ids.jsonl", [deposit])
    only_amqp = Addresses(
        http_url=None, api_key=None, upstream_amqp_url=addresses.upstream_amqp_url
    )

    tally = await replay(
        file, "amqp", mapping={"currency": "EUR"}, waits=False, addresses=only_amqp
    )

    assert (tally.answered, tally.new, tally.completed) == (1, None, None)

    async def is_there() -> bool:
        return await doors.api.balance(wallet) == "5.00"

    await eventually(is_there, what="the deposit")


async def test_rows_sent_when_the_ingress_dies_are_sent_again_and_posted_once(
    tmp_path: Path, replay: Replay, doors: Doors, verified: Verified
) -> None:
    file = ledger_file(tmp_path / "ladder.jsonl", ladder(accounts=10, steps=150))
    mapping = world()

    async def restart() -> None:
        async def has_begun() -> bool:
            first = await doors.api.get("/v1/transactions", idempotency_key=first_key)
            return bool(first.json["items"])

        await eventually(has_begun, what="the first row")
        await asyncio.to_thread(doors.system.kill, "ingress")
        await asyncio.to_thread(doors.system.restart, "ingress")

    first_key = f"{mapping['key_prefix']}0-0-deposit"
    tally, _ = await asyncio.gather(
        replay(file, mapping=mapping, batch=5, connections=4, rate_per_s=1500), restart()
    )

    assert tally.retries > 0
    assert tally.sent == tally.answered == 3000
    assert ((tally.new or 0) + (tally.replays or 0), tally.refused) == (3000, {})
    assert (await verified()).clean


async def test_messages_in_flight_when_the_connection_is_cut_are_sent_again_in_order(
    tmp_path: Path, replay: Replay, addresses: Addresses, verified: Verified
) -> None:
    file = ledger_file(tmp_path / "ladder.jsonl", ladder(accounts=10, steps=150))

    async with Proxy.to(addresses.amqp()) as proxy:

        async def cut_twice() -> None:
            for messages in (300, 1200):
                await eventually(sent(tally, messages), what=f"{messages} messages")
                proxy.cut()

        tally = Tally()
        through = replace(addresses, upstream_amqp_url=proxy.through(addresses.amqp()))
        await asyncio.gather(
            replay(file, "amqp", mapping=world(), batch=1, addresses=through, tally=tally),
            cut_twice(),
        )

    assert tally.retries > 0
    assert (tally.new, tally.completed, tally.refused) == (3000, 3000, {})
    assert (await verified()).clean


def sent(tally: Tally, count: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return tally.sent >= count

    return look


async def test_the_command_reads_a_packed_csv_from_a_pipe_and_prints_json(
    addresses: Addresses,
) -> None:
    lines = f"key,what,who,sum\n{uuid4().hex},in,pipe,12.50\n{uuid4().hex},out,pipe,99.00\n"
    options = (
        "- --format csv --wallets create --currency EUR --wait --json --type-map in=deposit "
        "--type-map out=withdrawal --map idempotency_key=key --map type=what --map wallet=who "
        f"--map amount=sum --key-prefix {uuid4().hex}-"
    ).split()

    code, output, _ = await replay_file(
        *options, addresses=addresses, given=gzip.compress(lines.encode())
    )

    summary = json.loads(output)
    assert code == 1, "a refusal"
    assert (summary["completed"], summary["refused"]) == (1, {"insufficient_funds": 1})

    code, output, _ = await replay_file(
        *options, "--allow-refusals", addresses=addresses, given=lines.encode()
    )

    assert (code, json.loads(output)["replays"]) == (0, 2)


async def test_a_wrong_key_is_wrong_use_and_a_silent_door_is_unreachable(
    tmp_path: Path, addresses: Addresses
) -> None:
    wallet = str(uuid4())
    file = str(
        ledger_file(
            tmp_path / "a.jsonl", [row("k", "deposit", "1.00", wallet=wallet, currency="EUR")]
        )
    )
    silent = Addresses(
        http_url="http://127.0.0.1:9", api_key="x", upstream_amqp_url="amqp://u:p@127.0.0.1:9/"
    )

    wrong, silent_http, silent_amqp = await asyncio.gather(
        replay_file(file, "--api-key", "wrong", addresses=addresses),
        replay_file(file, addresses=silent),
        replay_file(file, "--via", "amqp", addresses=silent),
    )

    assert (wrong[0], silent_http[0], silent_amqp[0]) == (2, 3, 3)
    assert "unauthenticated" in wrong[2]
    assert "127.0.0.1" in silent_http[2]
    assert "Traceback" not in wrong[2] + silent_http[2] + silent_amqp[2]


@BOTH
async def test_holds_and_journals_are_replayed_counted_and_known_again(
    via: Via, tmp_path: Path, replay: Replay, verified: Verified
) -> None:
    def leg(account: str | None, amount: str, currency: str = "EUR") -> dict[str, Any]:
        where = {"external": True} if account is None else {"wallet_id": account}
        return {**where, "amount": amount, "currency": currency}

    def journal(key: str, *legs: dict[str, Any]) -> dict[str, Any]:
        return {"idempotency_key": key, "type": "journal", "legs": legs}

    rows: list[dict[str, Any]] = [
        journal("split", leg(None, "-9.00"), leg("alice", "5.00"), leg("bob", "4.00")),
        {**row("hold", "hold", "3.00", wallet="alice"), "expires_in_s": 3600},
        row("held", "withdrawal", "2.50", wallet="alice"),
        journal("move", leg("alice", "-2.00"), leg("bob", "2.00")),
        journal("short", leg("alice", "-0.01"), leg("bob", "0.01")),
        row("rest", "withdrawal", "6.00", wallet="bob"),
    ]
    mapping = world()
    file = ledger_file(tmp_path / "types.jsonl", rows)

    tally = await replay(file, via, mapping=mapping)

    assert (tally.completed, tally.refused) == (4, {"insufficient_funds": 2})
    again = await replay(file, via, mapping=mapping)
    assert (again.new, again.replays, again.problems) == (0, 6, {})
    rows[3] = journal("move", leg("alice", "-1.00"), leg("bob", "1.00"))
    changed = await replay(ledger_file(file, rows), via, mapping=mapping)
    assert (changed.replays, changed.problems) == (5, {"idempotency_key_reused": 1})
    assert (await verified()).clean
