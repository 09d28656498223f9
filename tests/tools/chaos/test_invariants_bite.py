"""Each invariant bites: what is broken by hand is found, under its letter and no other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import orjson

from tests.conftest import Connection
from tests.tools.chaos.attacked import Run
from tools.chaos.events import EventRecorder, RecordedEvent
from tools.chaos.journal import Act, Door, Journal, Outcome, Promise
from tools.chaos.load.contents import changed

Change = Callable[[Promise], list[Promise]]

_SETTLED = "SELECT id FROM transactions WHERE status = 'COMPLETED' AND type = 'transfer' LIMIT 1"


async def found(run: Run) -> set[str]:
    """Return the letters of what a comparison finds."""
    return {breach.invariant for breach in (await run.verdict()).breaches}


def rewritten(run: Run, directory: Path, change: Change) -> Run:
    """Return the run with another journal; `change` gives what stands for each attempt."""
    with Journal(directory) as journal:
        for promise in run.journal.read():
            for one in change(promise):
                journal.record(one)
    journal.open.clear()
    return replace(run, journal=journal)


def retold(run: Run, directory: Path, events: list[RecordedEvent]) -> Run:
    """Return the run with other events."""
    recorder = EventRecorder(run.doors.events_amqp_url, directory=directory)
    recorder.began_at = run.events.began_at
    recorder.path.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    # Whoever listened over HTTP heard what was told, not this.
    return replace(run, events=recorder, listeners=None)


def some(run: Run, act: Act, outcome: Outcome) -> Promise:
    """Return the first attempt of a kind."""
    return next(one for one in run.journal.read() if (one.act, one.outcome) == (act, outcome))


async def test_c_a_balance_that_is_not_the_sum_of_its_entries(copy: Run, books: Connection) -> None:
    await books.execute("UPDATE wallets SET balance = balance + 1 WHERE owner_id = 'chaos--7-0'")

    assert await found(copy) == {"C"}


async def test_c_money_moved_by_a_transaction_of_another_amount_than_was_promised(
    copy: Run, tmp_path: Path
) -> None:
    """The books alone are right here: only the journal knows better."""
    victim = some(copy, Act.TRANSFER, Outcome.ACCEPTED)
    assert victim.command is not None
    other = changed(victim.command)

    def change(one: Promise) -> list[Promise]:
        is_victim = one.idempotency_key == victim.idempotency_key
        return [replace(one, command=other) if is_victim and one.command else one]

    assert await found(rewritten(copy, tmp_path, change)) == {"C", "R"}


async def test_x_a_transaction_posted_twice(copy: Run, books: Connection) -> None:
    """Balances, sequences and chains fit, so that a sum over the wallet alone would see nothing."""
    await books.execute(
        f"""
        WITH once AS ({_SETTLED}), legs AS (
            SELECT e.wallet_id, e.transaction_id, e.amount, w.balance, w.version
            FROM entries AS e JOIN wallets AS w ON w.id = e.wallet_id
            WHERE e.transaction_id = (SELECT id FROM once)
        ), again AS (
            INSERT INTO entries
            SELECT wallet_id, version + 1, transaction_id, amount, balance + amount, now() FROM legs
        )
        UPDATE wallets AS w SET balance = w.balance + l.amount, version = w.version + 1
        FROM legs AS l WHERE l.wallet_id = w.id
        """
    )

    assert await found(copy) == {"X", "C"}


async def test_x_a_key_that_stands_for_two_transactions(copy: Run, books: Connection) -> None:
    await books.execute("ALTER TABLE transactions DROP CONSTRAINT transactions_submitter_key")
    await books.execute(
        """
        INSERT INTO transactions (
            id, submitter, idempotency_key, fingerprint, channel, type, source_wallet_id,
            destination_wallet_id, amount, currency, status, failure_code, created_at, completed_at
        )
        SELECT
            gen_random_uuid(), submitter, idempotency_key, fingerprint, channel, type,
            source_wallet_id, destination_wallet_id, amount, currency, 'FAILED', 'discarded',
            created_at - interval '1 day', now()
        FROM transactions WHERE status = 'COMPLETED' AND channel = 'amqp' LIMIT 1
        """
    )

    assert "X" in await found(copy)


async def test_x_a_transaction_that_nobody_asked_for(copy: Run, tmp_path: Path) -> None:
    victim = some(copy, Act.UNKNOWN_WALLET, Outcome.ACCEPTED)

    def change(one: Promise) -> list[Promise]:
        return [] if one.idempotency_key == victim.idempotency_key else [one]

    breaches = (await rewritten(copy, tmp_path, change).verdict()).breaches

    assert {(one.invariant, one.subject) for one in breaches} == {
        ("X", f"key {victim.idempotency_key}")
    }


async def test_t_a_promise_without_a_transaction(copy: Run, tmp_path: Path) -> None:
    given = some(copy, Act.DEPOSIT, Outcome.CONFIRMED)
    lost = replace(given, idempotency_key="chaos--7-lost")

    def change(one: Promise) -> list[Promise]:
        return [one, lost] if one == given else [one]

    breaches = (await rewritten(copy, tmp_path, change).verdict()).breaches

    assert [(one.invariant, one.subject) for one in breaches] == [("T", "key chaos--7-lost")]


async def test_t_a_transaction_that_stays_pending(copy: Run, books: Connection) -> None:
    victim = some(copy, Act.FROZEN_WALLET, Outcome.ACCEPTED)
    await books.execute(
        """
        WITH back AS (
            UPDATE transactions SET status = 'PENDING', failure_code = NULL, completed_at = NULL
            WHERE idempotency_key = $1 RETURNING id
        )
        DELETE FROM exceptional_transactions WHERE transaction_id IN (SELECT id FROM back)
        """,
        victim.idempotency_key,
    )

    # Its event was told, in the queue and over HTTP, and is not so any more.
    assert await found(copy) == {"T", "E", "L"}


async def test_t_an_outcome_that_stayed_open(copy: Run, tmp_path: Path) -> None:
    given = some(copy, Act.DEPOSIT, Outcome.ACCEPTED)
    with Journal(tmp_path) as journal:
        for promise in copy.journal.read():
            journal.record(promise)
        journal.record(replace(given, outcome=Outcome.UNKNOWN, transaction_id=None, code="0 lost"))

    assert await found(replace(copy, journal=journal)) == {"T"}


async def test_t_poison_that_is_no_dead_letter(copy: Run, books: Connection) -> None:
    victim = some(copy, Act.POISON, Outcome.CONFIRMED)
    await books.execute(
        "DELETE FROM dead_letters WHERE position(convert_to($1, 'UTF8') IN body) > 0",
        f'{victim.idempotency_key}"',
    )

    assert await found(copy) == {"T"}


async def test_r_an_answer_that_names_another_transaction(copy: Run, tmp_path: Path) -> None:
    given = some(copy, Act.DUPLICATE, Outcome.ACCEPTED)

    def change(one: Promise) -> list[Promise]:
        return [replace(one, transaction_id=uuid4()) if one == given else one]

    assert await found(rewritten(copy, tmp_path, change)) == {"R"}


async def test_r_other_content_that_was_taken(copy: Run, tmp_path: Path) -> None:
    given = next(
        one for one in copy.journal.read() if one.act is Act.OTHER_CONTENT and one.door is Door.HTTP
    )

    def change(one: Promise) -> list[Promise]:
        taken = replace(one, outcome=Outcome.ACCEPTED, transaction_id=uuid4(), code=None)
        return [taken if one == given else one]

    assert await found(rewritten(copy, tmp_path, change)) == {"R"}


async def test_r_other_content_that_vanished_over_amqp(copy: Run, books: Connection) -> None:
    await books.execute("DELETE FROM dead_letters WHERE reason = 'idempotency_key_reused'")

    assert await found(copy) == {"R"}


async def test_r_the_same_content_that_was_refused(copy: Run, tmp_path: Path) -> None:
    """The dead letters stay; the journal says that nobody sent other content."""

    def change(one: Promise) -> list[Promise]:
        return [] if one.act is Act.OTHER_CONTENT else [one]

    assert await found(rewritten(copy, tmp_path, change)) == {"R"}


async def test_r_a_good_request_that_was_refused_at_the_door(copy: Run, tmp_path: Path) -> None:
    given = some(copy, Act.DUPLICATE, Outcome.ACCEPTED)
    refusal = replace(
        given, outcome=Outcome.REFUSED, transaction_id=None, code="422 idempotency_key_reused"
    )

    def change(one: Promise) -> list[Promise]:
        return [refusal if one == given else one]

    assert await found(rewritten(copy, tmp_path, change)) == {"R"}


async def test_n_a_balance_that_was_below_its_limit_once(copy: Run, books: Connection) -> None:
    """The limit is set behind what was lent: today's balance is right, history is not."""
    await books.execute("ALTER TABLE wallets DROP CONSTRAINT wallets_available_not_negative")
    wallet = await books.fetchval(
        """
        SELECT e.wallet_id FROM entries AS e JOIN wallets AS w ON w.id = e.wallet_id
        WHERE w.kind = 'customer' AND w.balance > 0 AND e.sequence < w.version LIMIT 1
        """
    )
    # One entry's amount and the next one's compensate, so that only the balance between is wrong.
    await books.execute(
        """
        WITH moved AS (
            SELECT wallet_id, sequence, balance_after + 1000000000 AS shift FROM entries
            WHERE wallet_id = $1 AND sequence = 1
        )
        UPDATE entries AS e SET balance_after = e.balance_after - m.shift
        FROM moved AS m WHERE e.wallet_id = m.wallet_id AND e.sequence = m.sequence
        """,
        wallet,
    )

    assert await found(copy) == {"N", "C"}


async def test_e_a_final_transaction_without_its_event(copy: Run, tmp_path: Path) -> None:
    events = list(copy.events.read())
    silent = events[len(events) // 2].transaction_id

    run = retold(copy, tmp_path, [one for one in events if one.transaction_id != silent])

    assert await found(run) == {"E"}


async def test_e_a_duplicate_with_an_event_id_of_its_own(copy: Run, tmp_path: Path) -> None:
    events = list(copy.events.read())

    assert await found(retold(copy, tmp_path, [*events, replace(events[0])])) == set()
    assert await found(retold(copy, tmp_path, [*events, replace(events[0], event_id=uuid4())])) == {
        "E"
    }


async def test_e_an_event_of_what_is_not_so(copy: Run, tmp_path: Path) -> None:
    events = list(copy.events.read())
    invented = RecordedEvent(uuid4(), "transaction.completed", uuid4())

    assert await found(retold(copy, tmp_path, [*events, invented])) == {"E"}


async def test_q_a_dead_letter_whose_transaction_is_forgotten(copy: Run, books: Connection) -> None:
    await books.execute(
        """
        INSERT INTO dead_letters (
            id, message_id, queue, reason, detail, body, headers, submitter, transaction_id
        )
        VALUES (gen_random_uuid(), 'one', 'q', 'quarantined', 'd', '{}', '{}', 'demo', $1)
        """,
        uuid4(),
    )

    assert await found(copy) == {"Q"}


async def test_q_a_good_message_that_was_buried(copy: Run, books: Connection) -> None:
    await books.execute(
        """
        INSERT INTO dead_letters (id, message_id, queue, reason, detail, body, headers, submitter)
        VALUES (gen_random_uuid(), 'two', 'q', 'delivery_limit', 'd', $1, '{}', 'demo')
        """,
        b'{"version": 1, "idempotency_key":"chaos--7-0-buried"}',
    )

    assert await found(copy) == {"Q"}
