"""What happens at its time, on a whole system; and what a terminal shows of transactions."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.postgres.pool import connect
from tests.conftest import Doors
from tests.integration.command_line.calling import Terminal
from tests.support import deposit, eventually, transfer

pytestmark = pytest.mark.long

EXPIRES_IN_S = 1
WITHIN_S = 2.0
"""What is promised for the release of an expired hold."""
SLACK_S = 2.0
"""For a machine that is busy with other tests."""


@pytest.fixture
def terminal(doors: Doors, tmp_path: Path) -> Terminal:
    return Terminal(doors, tmp_path / ".local")


async def _funded(doors: Doors, amount: str = "100.00") -> str:
    wallet = await doors.api.create_wallet()
    assert (await doors.api.submit(deposit(wallet, amount))).json["status"] == "COMPLETED"
    return wallet


async def _transaction(doors: Doors, transaction_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await doors.api.get(f"/v1/transactions/{transaction_id}")).json
    return found


async def test_an_expired_hold_is_released_in_time(doors: Doors) -> None:
    wallet = await _funded(doors)
    hold = {
        "type": "hold",
        "source_wallet_id": wallet,
        "amount": "40.00",
        "currency": "USD",
        "expires_in_s": EXPIRES_IN_S,
    }
    posted = (await doors.api.submit(hold)).json
    began = time.monotonic()
    assert posted["hold"]["status"] == "OPEN"

    connection = await connect(doors.database_url, name="test")

    async def is_freed() -> bool:
        """In the row: what is read is worth nothing from its instant on."""
        return bool(await connection.fetchval("SELECT held = 0 FROM wallets WHERE id = $1", wallet))

    await eventually(is_freed, what="the hold is released")
    await connection.close()

    assert time.monotonic() - began < EXPIRES_IN_S + WITHIN_S + SLACK_S
    shown = await _transaction(doors, posted["id"])
    assert (shown["hold"]["status"], shown["hold"]["remaining"]) == ("EXPIRED", "0.00")


async def test_a_scheduled_transaction_is_executed_at_its_time(doors: Doors) -> None:
    source, destination = await _funded(doors), await _funded(doors)
    due = datetime.now(UTC) + timedelta(seconds=1)
    request = {**transfer(source, destination, "5.00"), "execute_at": due.isoformat()}

    recorded = (await doors.api.submit(request)).json

    async def is_executed() -> bool:
        return bool((await _transaction(doors, recorded["id"]))["status"] == "COMPLETED")

    await eventually(is_executed, what="it is executed")
    done = datetime.fromisoformat((await _transaction(doors, recorded["id"]))["completed_at"])
    assert due <= done <= due + timedelta(seconds=WITHIN_S + SLACK_S)


async def test_every_type_is_shown(doors: Doors, terminal: Terminal) -> None:
    wallet, other = await _funded(doors), await _funded(doors)
    hold = (
        await doors.api.submit(
            {"type": "hold", "source_wallet_id": wallet, "amount": "4.00", "currency": "USD"}
        )
    ).json["id"]
    capture = (
        await doors.api.submit(
            {"type": "capture", "hold_id": hold, "amount": "1.50", "final": False}
        )
    ).json["id"]
    legs = [
        {"wallet_id": wallet, "amount": "-2.00", "currency": "USD"},
        {"wallet_id": other, "amount": "1.75", "currency": "USD"},
        {"external": True, "amount": "0.25", "currency": "USD"},
    ]
    journal = (await doors.api.submit({"type": "journal", "legs": legs})).json["id"]
    reversal = (await doors.api.submit({"type": "reversal", "reverses": journal})).json["id"]

    shown = {
        one: (await terminal.call("show", one)).out for one in (hold, capture, journal, reversal)
    }

    assert "OPEN, 1.50 captured, 2.50 left, expires " in shown[hold]
    assert hold in shown[capture]
    assert "journal\n" in shown[journal]
    assert "external" in shown[journal]
    assert "reversals " in shown[journal]
    assert reversal in shown[journal]
    assert "REVERSED" in shown[journal]
    assert journal in shown[reversal]
    assert (await terminal.call("verify")).code == 0
