"""The journal gives back what was written, and knows what is open."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from tools.chaos.command import Command, Leg, Terms
from tools.chaos.journal import Act, Door, Journal, Outcome, Promise

COMMAND = Command(
    type="transfer",
    source_wallet_id=UUID(int=1),
    destination_wallet_id=UUID(int=2),
    minor=1050,
    currency="USD",
)
ACCEPTED = Promise(
    client=3,
    sequence=14,
    attempt=0,
    door=Door.HTTP,
    act=Act.TRANSFER,
    idempotency_key="chaos-1-3-14",
    command=COMMAND,
    is_batch=False,
    sent_s=1.5,
    answered_s=1.75,
    sent_at=datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    outcome=Outcome.ACCEPTED,
    transaction_id=UUID(int=9),
)
OPEN = replace(ACCEPTED, outcome=Outcome.UNKNOWN, transaction_id=None, code="0 TimeoutError")
POISON = replace(OPEN, act=Act.POISON, door=Door.AMQP, command=None, idempotency_key="mark")
DEPOSIT = replace(
    ACCEPTED,
    act=Act.DEPOSIT,
    command=Command(
        type="deposit",
        source_wallet_id=None,
        destination_wallet_id=UUID(int=2),
        minor=1,
        currency="JPY",
        description="d",
    ),
)
CAPTURE = replace(
    ACCEPTED,
    act=Act.CAPTURE,
    command=replace(
        COMMAND,
        type="capture",
        minor=None,
        terms=Terms(other_key="k-0", other_id=UUID(int=8), is_final=False),
    ),
)
JOURNAL = replace(
    ACCEPTED,
    act=Act.JOURNAL,
    command=Command(
        type="journal",
        source_wallet_id=None,
        destination_wallet_id=None,
        minor=None,
        currency="USD",
        terms=Terms(
            legs=(
                Leg(wallet_id=UUID(int=1), minor=-250, currency="USD"),
                Leg(wallet_id=None, minor=250, currency="USD"),
            ),
            batch="b",
        ),
    ),
)
CONDITION = replace(
    ACCEPTED,
    act=Act.CONDITION,
    command=replace(
        COMMAND,
        terms=Terms(
            version=7,
            balance_at_most=1000,
            valid_until=datetime(2030, 1, 2, tzinfo=UTC),
            execute_at=datetime(2030, 1, 1, tzinfo=UTC),
        ),
    ),
)


def body(promise: Promise) -> dict[str, Any]:
    """Return what a promise asked for."""
    assert promise.command is not None
    return promise.command.body("k")


def test_every_attempt_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = [ACCEPTED, OPEN, POISON, DEPOSIT, CAPTURE, JOURNAL, CONDITION]
    with Journal(tmp_path) as journal:
        for promise in written:
            journal.record(promise)
        assert list(journal.read()) == written

    assert list(journal.read()) == written


def test_an_answer_closes_what_was_open(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(OPEN)
        assert list(journal.open) == [OPEN.idempotency_key]
        journal.record(ACCEPTED)
        assert journal.open == {}


def test_poison_and_other_content_are_never_open(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(POISON)
        journal.record(replace(OPEN, act=Act.OTHER_CONTENT))
        assert journal.open == {}


def test_a_command_is_written_as_the_contract_has_it() -> None:
    assert COMMAND.body("k") == {
        "idempotency_key": "k",
        "type": "transfer",
        "source_wallet_id": str(UUID(int=1)),
        "destination_wallet_id": str(UUID(int=2)),
        "amount": "10.50",
        "currency": "USD",
    }
    assert DEPOSIT.command is not None
    assert DEPOSIT.command.body("k")["amount"] == "1"
    assert "source_wallet_id" not in DEPOSIT.command.body("k")


def test_what_names_another_transaction_names_no_wallet() -> None:
    assert body(CAPTURE) == {
        "idempotency_key": "k",
        "type": "capture",
        "hold_id": str(UUID(int=8)),
        "final": False,
    }


def test_a_journal_is_its_legs_and_a_batch_is_its_request_s_affair() -> None:
    assert body(JOURNAL) == {
        "idempotency_key": "k",
        "type": "journal",
        "legs": [
            {"wallet_id": str(UUID(int=1)), "amount": "-2.50", "currency": "USD"},
            {"external": True, "amount": "2.50", "currency": "USD"},
        ],
    }


def test_a_condition_is_one_on_the_ordering_wallet() -> None:
    written = body(CONDITION)

    assert written["conditions"] == [
        {"wallet_id": str(UUID(int=1)), "version": 7, "balance_at_most": "10.00"}
    ]
    assert written["valid_until"] == "2030-01-02T00:00:00.000000+00:00"
    assert written["execute_at"] == "2030-01-01T00:00:00.000000+00:00"


def test_a_reversal_keeps_the_order_of_the_wallet_that_was_debited_before() -> None:
    assert COMMAND.ordering_wallet == UUID(int=1)
    assert replace(COMMAND, type="reversal").ordering_wallet == UUID(int=2)
