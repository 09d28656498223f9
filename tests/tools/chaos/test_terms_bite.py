"""Each invariant of what is more than a plain move bites, as the others do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from tests.conftest import Connection
from tests.tools.chaos.attacked import Run
from tests.tools.chaos.test_invariants_bite import found, retold, rewritten
from tests.tools.chaos.test_order_bites import Pair, turned
from tools.chaos.command import Command, Terms
from tools.chaos.journal import Act, Door, Outcome, Promise


async def posted(run: Run, books: Connection, fits: Callable[[Command, Terms], bool]) -> Promise:
    """Return the first promise that was posted and fits; each has terms."""
    rows = await books.fetch(
        "SELECT idempotency_key FROM transactions WHERE status IN ('COMPLETED', 'REVERSED')"
    )
    keys = {row["idempotency_key"] for row in rows}
    return next(
        one
        for one in run.journal.read()
        if one.idempotency_key in keys
        and one.command is not None
        and one.command.terms is not None
        and one.act not in (Act.OTHER_CONTENT, Act.DUPLICATE, Act.CONCURRENT_DUPLICATE)
        and fits(one.command, one.command.terms)
    )


def _with_terms(victim: Promise, **changes: object) -> Callable[[Promise], list[Promise]]:
    """Change what every attempt under a key asked for beside its amount."""

    def change(one: Promise) -> list[Promise]:
        command = one.command
        if one.idempotency_key != victim.idempotency_key or command is None:
            return [one]
        terms = replace(command.terms or Terms(), **changes)  # type: ignore[arg-type]
        return [replace(one, command=replace(command, terms=terms))]

    return change


async def test_every_type_and_every_term_was_posted(finished: Run) -> None:
    kinds = (await finished.verdict()).kinds

    posted_kinds = {name for name, counts in kinds.items() if counts["posted"]}
    assert posted_kinds >= {
        *("deposit", "withdrawal", "transfer", "hold", "capture", "release", "reversal", "journal"),
        *("hold that expired", "journal in two currencies", "in an atomic batch"),
        *("with a condition", "with `valid_until`", "with `execute_at`"),
    }


async def test_h_a_hold_of_which_less_was_captured_than_its_captures_took(
    copy: Run, books: Connection
) -> None:
    await books.execute(
        """
        UPDATE holds SET captured = captured - 1
        WHERE transaction_id = (
            SELECT transaction_id FROM holds WHERE status = 'CAPTURED' AND captured > 1 LIMIT 1
        )
        """
    )

    assert await found(copy) == {"H", "C"}


async def test_h_a_hold_that_ended_without_anybody_s_asking(copy: Run, books: Connection) -> None:
    """The wallet agrees, so that the books alone are right."""
    await books.execute(
        """
        WITH victim AS (
            SELECT transaction_id, wallet_id, remaining FROM holds WHERE status = 'OPEN' LIMIT 1
        ), freed AS (
            UPDATE wallets AS w SET held = held - v.remaining FROM victim AS v
            WHERE w.id = v.wallet_id
        )
        UPDATE holds AS h SET status = 'RELEASED', remaining = 0
        FROM victim AS v WHERE h.transaction_id = v.transaction_id
        """
    )

    assert await found(copy) == {"H"}


async def test_h_a_wallet_of_which_more_is_held_than_its_holds_come_to(
    copy: Run, books: Connection
) -> None:
    await books.execute(
        "UPDATE wallets SET held = held + 1 WHERE id = (SELECT wallet_id FROM holds LIMIT 1)"
    )

    assert await found(copy) == {"H", "C"}


async def test_v_a_transaction_that_was_reversed_and_does_not_say_so(
    copy: Run, books: Connection
) -> None:
    await books.execute(
        """
        UPDATE transactions SET status = 'COMPLETED'
        WHERE id = (SELECT id FROM transactions WHERE status = 'REVERSED' LIMIT 1)
        """
    )

    # Its event was told, by the queue and to who follows, and is not so any more.
    assert await found(copy) == {"V", "C", "E", "L"}


async def test_v_a_reversal_that_took_back_another_amount_than_the_rest(
    copy: Run, books: Connection, tmp_path: Path
) -> None:
    """The books are right: less was promised to have been moved at first."""
    moved = {
        one.idempotency_key
        for one in copy.journal.read()
        if one.command is not None and one.command.minor is not None
    }
    back = await posted(
        copy,
        books,
        lambda command, terms: (
            command.type == "reversal" and command.minor is None and terms.other_key in moved
        ),
    )
    assert back.command is not None
    assert back.command.terms is not None
    original = back.command.terms.other_key

    def change(one: Promise) -> list[Promise]:
        command = one.command
        if one.idempotency_key != original or command is None or command.minor is None:
            return [one]
        return [replace(one, command=replace(command, minor=command.minor + 1))]

    assert await found(rewritten(copy, tmp_path, change)) == {"V", "R", "C"}


async def test_a_an_atomic_batch_of_which_one_member_failed_alone(
    copy: Run, books: Connection, tmp_path: Path
) -> None:
    """A member of a batch that failed is said to have been one of a batch that was posted."""
    whole = await posted(copy, books, lambda _, terms: terms.batch is not None)
    assert whole.command is not None
    failed = next(one for one in copy.journal.read() if one.act is Act.DOOMED_ATOMIC)

    assert await found(
        rewritten(copy, tmp_path, _with_terms(failed, batch=whole.command.batch))
    ) == {"A"}


async def test_w_a_condition_that_was_not_met(copy: Run, books: Connection, tmp_path: Path) -> None:
    given = await posted(copy, books, lambda _, terms: terms.balance_at_most is not None)

    assert await found(
        rewritten(copy, tmp_path, _with_terms(given, balance_at_most=-(10**12)))
    ) == {"W"}


async def test_w_a_version_that_the_wallet_did_not_have(
    copy: Run, books: Connection, tmp_path: Path
) -> None:
    given = await posted(copy, books, lambda _, terms: terms.version is not None)
    assert given.command is not None
    assert given.command.terms is not None
    version = (given.command.terms.version or 0) + 1

    assert await found(rewritten(copy, tmp_path, _with_terms(given, version=version))) == {"W"}


async def test_w_a_cancellation_that_was_answered_and_did_not_happen(
    copy: Run, books: Connection, tmp_path: Path
) -> None:
    given = await posted(copy, books, lambda _, terms: terms.execute_at is not None)
    found_id = await books.fetchval(
        "SELECT id FROM transactions WHERE idempotency_key = $1", given.idempotency_key
    )
    assert given.command is not None
    cancel = replace(
        given,
        act=Act.CANCEL,
        idempotency_key=f"{given.idempotency_key}/cancel",
        outcome=Outcome.ACCEPTED,
        command=replace(given.command, type="cancel", terms=Terms(other_id=UUID(str(found_id)))),
    )

    def change(one: Promise) -> list[Promise]:
        return [one, cancel] if one == given else [one]

    assert await found(rewritten(copy, tmp_path, change)) == {"W"}


async def test_f_an_ending_that_nobody_asked_for(copy: Run, tmp_path: Path) -> None:
    given = next(one for one in copy.journal.read() if one.act is Act.DEPOSIT)

    def change(one: Promise) -> list[Promise]:
        is_given = one.idempotency_key == given.idempotency_key and one.act is Act.DEPOSIT
        return [replace(one, act=Act.FROZEN_WALLET) if is_given else one]

    assert await found(rewritten(copy, tmp_path, change)) == {"F"}


async def test_r_a_journal_with_other_legs_than_were_asked_for(
    copy: Run, books: Connection, tmp_path: Path
) -> None:
    given = await posted(copy, books, lambda _, terms: len(terms.legs) > 1)
    assert given.command is not None
    assert given.command.terms is not None
    first, second, *rest = given.command.terms.legs
    legs = (
        replace(first, minor=first.minor + 10**6),
        replace(second, minor=second.minor - 10**6),
        *rest,
    )

    assert await found(rewritten(copy, tmp_path, _with_terms(given, legs=legs))) >= {"R"}


async def test_e_a_reversed_transaction_whose_completion_was_never_told(
    copy: Run, books: Connection, tmp_path: Path
) -> None:
    victim = await books.fetchval("SELECT id FROM transactions WHERE status = 'REVERSED' LIMIT 1")

    events = [
        one
        for one in copy.events.read()
        if (one.transaction_id, one.event_type) != (victim, "transaction.completed")
    ]

    assert await found(retold(copy, tmp_path, events)) == {"E"}


async def test_o_a_hold_is_not_overtaken(copy: Run, books: Connection, tmp_path: Path) -> None:
    """It has no entry: the moments say which was posted first."""
    sent: dict[str, list[Promise]] = {}
    for one in copy.journal.read():
        sent.setdefault(one.idempotency_key, []).append(one)
    rows = await books.fetch(
        """
        SELECT before.idempotency_key AS first, held.idempotency_key AS second
        FROM transactions AS held
        JOIN transactions AS before
            ON before.source_wallet_id = held.source_wallet_id
            AND before.completed_at < held.completed_at
        WHERE held.type = 'hold' AND held.status = 'COMPLETED'
            AND before.type = 'transfer' AND before.status = 'COMPLETED'
        """
    )
    pairs = (Pair(sent[row["first"]][0], sent[row["second"]][0]) for row in rows)
    pair = next(
        pair
        for pair in pairs
        if pair.second.door is Door.HTTP
        and len(sent[pair.second.idempotency_key]) == 1
        and len(sent[pair.first.idempotency_key]) == 1
        and pair.second.command is not None
        and pair.second.command.batch is None
        and pair.first.command is not None
        and (pair.first.command.terms is None or pair.first.command.terms.execute_at is None)
    )

    breaches = (await turned(copy, tmp_path, pair).verdict()).breaches

    assert [(one.invariant, one.subject) for one in breaches] == [
        ("O", f"key {pair.second.idempotency_key}")
    ]
