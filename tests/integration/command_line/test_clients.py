"""The commands beside a running system: submit, show, verify, dead-letters, reconcile."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runtime.postgres.pool import connect
from tests.conftest import Doors
from tests.integration.command_line.calling import Terminal, ackledger
from tests.support import eventually

pytestmark = pytest.mark.long


@pytest.fixture
def terminal(doors: Doors, directory: Path) -> Terminal:
    """A terminal beside the running system."""
    return Terminal(doors, directory)


async def test_submit_shows_the_final_state_and_the_fresh_key(
    doors: Doors, terminal: Terminal
) -> None:
    wallet = await doors.api.create_wallet()

    called = await terminal.deposit(wallet, "10.50", "--json")

    assert called.code == 0
    assert called.json["status"] == "COMPLETED"
    assert f"idempotency key {called.json['idempotency_key']}" in called.err
    assert await doors.api.balance(wallet) == "10.50"


async def test_submit_again_with_the_same_key_moves_nothing(
    doors: Doors, terminal: Terminal
) -> None:
    wallet, key = await doors.api.create_wallet(), uuid4().hex

    first = await terminal.deposit(wallet, "3.00", "--key", key, "--json")
    second = await terminal.deposit(wallet, "3.00", "--key", key, "--json")

    assert first.json == second.json
    assert await doors.api.balance(wallet) == "3.00"


async def test_a_refused_transaction_exits_1_with_its_reason(
    doors: Doors, terminal: Terminal
) -> None:
    wallet = await doors.api.create_wallet()

    called = await terminal.call(
        *("submit", "--type", "withdrawal", "--source", wallet),
        *("--amount", "1.00", "--currency", "USD"),
    )

    assert called.code == 1
    assert "FAILED" in called.out
    assert "insufficient_funds" in called.out


async def test_a_key_used_for_other_content_exits_1(doors: Doors, terminal: Terminal) -> None:
    wallet, key = await doors.api.create_wallet(), uuid4().hex
    await terminal.deposit(wallet, "3.00", "--key", key)

    called = await terminal.deposit(wallet, "4.00", "--key", key, "--json")

    assert called.code == 1
    assert called.json["code"] == "idempotency_key_reused"


async def test_an_amount_that_is_none_exits_2(doors: Doors, terminal: Terminal) -> None:
    called = await terminal.deposit(await doors.api.create_wallet(), "1.005")

    assert called.code == 2
    assert "/amount" in called.err


async def test_a_wrong_api_key_exits_2(doors: Doors, terminal: Terminal) -> None:
    wallet = await doors.api.create_wallet()

    called = await terminal.deposit(wallet, "1.00", "--api-key", "ack_wrong")

    assert called.code == 2
    assert "unauthenticated" in called.err


@pytest.mark.parametrize("name", ["id", "reference"])
async def test_show_finds_a_transaction_by_either_name(
    doors: Doors, terminal: Terminal, name: str
) -> None:
    wallet = await doors.api.create_wallet()
    made = (await terminal.deposit(wallet, "7.00", "--json")).json

    shown = await terminal.call("show", made[name], "--json")
    for_people = await terminal.call("show", made[name])

    assert shown.json == made
    assert {made["reference"], wallet, "7.00"} <= set(for_people.out.split())


async def test_what_a_client_wrote_does_not_steer_the_terminal(
    doors: Doors, terminal: Terminal
) -> None:
    wallet = await doors.api.create_wallet()

    called = await terminal.deposit(wallet, "1.00", "--description", "\x1b[2J\x1b]0;gone\x07")

    assert called.code == 0
    assert "\x1b" not in called.out


async def test_an_unknown_transaction_exits_1(terminal: Terminal) -> None:
    called = await terminal.call("show", str(uuid4()))

    assert called.code == 1
    assert "transaction_not_found" in called.err


async def test_verify_is_clean_beside_live_traffic(terminal: Terminal) -> None:
    called = await terminal.call("verify", "--json")

    assert called.code == 0
    assert called.json["clean"] is True
    assert called.json["findings"] == []
    assert set(called.json) == {
        "clean",
        "wallets",
        "transactions",
        "entries",
        "by_status",
        "seals",
        "findings",
    }


async def test_verify_exits_1_with_every_finding(directory: Path, database_url: str) -> None:
    connection = await connect(database_url, name="test")
    for currency in ("EUR", "USD"):
        await connection.execute(
            "INSERT INTO wallets (id, currency, balance) VALUES (gen_random_uuid(), $1, 5)",
            currency,
        )
    await connection.close()
    variables = {"DATABASE_URL": database_url}

    called = await ackledger("verify", "--json", directory=directory, variables=variables)
    for_people = await ackledger("verify", directory=directory, variables=variables)

    assert (called.code, for_people.code) == (1, 1)
    assert called.json["clean"] is False
    subjects = [finding["subject"] for finding in called.json["findings"]]
    assert len(subjects) >= 2
    assert all(subject in for_people.out for subject in subjects)


async def test_a_pass_of_the_reconciler_tells_what_it_did(terminal: Terminal) -> None:
    called = await terminal.call("reconcile", "--once", "--json")

    assert called.code == 0
    assert {"swept", "stale", "republished", "waiting"} <= set(called.json)


async def dead_letter(doors: Doors, terminal: Terminal) -> dict[str, Any]:
    """Publish a message that is no JSON, and return it as it is listed."""
    mark = f"poison-{uuid4().hex}"
    await doors.upstream.publish(mark.encode())

    async def look() -> dict[str, Any] | None:
        page = (await terminal.call("dead-letters", "list", "--json")).json
        return next((item for item in page["items"] if item["body"] == mark), None)

    return await eventually(look, what="the dead letter is listed")


async def test_a_dead_letter_is_listed_and_shown(doors: Doors, terminal: Terminal) -> None:
    letter = await dead_letter(doors, terminal)

    shown = await terminal.call("dead-letters", "show", letter["id"], "--json")

    assert shown.json["reason"] == "not_json"
    assert shown.json["submitter"] == "demo"
    assert shown.json["body"] == letter["body"]


async def test_a_dry_run_changes_nothing(doors: Doors, terminal: Terminal) -> None:
    letter = await dead_letter(doors, terminal)

    called = await terminal.call("dead-letters", "discard", letter["id"], "--dry-run", "--json")

    assert called.code == 0
    assert called.json["dry_run"] is True
    assert called.json["counts"] == {"discarded": 1}
    shown = await terminal.call("dead-letters", "show", letter["id"], "--json")
    assert shown.json["state"] == "open"


async def test_a_replay_of_what_is_still_poison_exits_1_and_leaves_it_open(
    doors: Doors, terminal: Terminal
) -> None:
    letter = await dead_letter(doors, terminal)

    called = await terminal.call("dead-letters", "replay", letter["id"], "--json")

    assert called.code == 1
    assert called.json["counts"] == {"refused": 1}
    shown = await terminal.call("dead-letters", "show", letter["id"], "--json")
    assert shown.json["state"] == "open"


async def test_a_filter_discards_what_it_names_once(doors: Doors, terminal: Terminal) -> None:
    await asyncio.gather(*(dead_letter(doors, terminal) for _ in range(2)))
    arguments = ("dead-letters", "discard", "--reason", "not_json", "--json")

    first, second = await terminal.call(*arguments), await terminal.call(*arguments)

    assert (first.code, second.code) == (0, 0)
    assert first.json["counts"]["discarded"] >= 2
    assert second.json["counts"] == {}


async def test_an_unknown_dead_letter_exits_1(terminal: Terminal) -> None:
    called = await terminal.call("dead-letters", "discard", str(uuid4()))

    assert called.code == 1
    assert "no dead letter" in called.err
