"""The journal gives back what was written, and knows what is open."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from tools.chaos.command import Command
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


def test_every_attempt_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = [ACCEPTED, OPEN, POISON, DEPOSIT]
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
