"""Order is held across clients, doors and ingresses: what was overtaken by hand is found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import Connection
from tests.tools.chaos.attacked import BATCH_SIZE, STALE_AFTER_S, Run
from tests.tools.chaos.test_invariants_bite import rewritten
from tools.chaos.invariants import OrderTerms, Verdict, check
from tools.chaos.journal import Door, Promise

_MOMENT_S = 1e-6
_LATE = timedelta(seconds=STALE_AFTER_S + 0.5)


@dataclass(frozen=True)
class Pair:
    """Two transactions of a wallet, posted one after the other; each key was sent once.

    `first` was sent later than all that was posted before it, so that it alone can have overtaken.
    """

    first: Promise
    second: Promise


async def _pairs(run: Run, books: Connection) -> list[Pair]:
    attempts: dict[str, list[Promise]] = {}
    for one in run.journal.read():
        attempts.setdefault(one.idempotency_key, []).append(one)
    rows = await books.fetch(
        """
        SELECT
            t.idempotency_key AS key, place.wallet,
            t.type IN ('deposit', 'withdrawal', 'transfer') AS is_plain
        FROM transactions AS t
        LEFT JOIN transaction_terms AS terms ON terms.transaction_id = t.id
        CROSS JOIN LATERAL (
            SELECT t.source_wallet_id AS wallet, t.source_sequence AS sequence
            WHERE t.type IN ('withdrawal', 'transfer', 'capture')
            UNION ALL
            SELECT t.destination_wallet_id, t.destination_sequence
            WHERE t.type IN ('deposit', 'reversal')
            UNION ALL
            SELECT leg.wallet_id, min(leg.sequence) FROM transaction_legs AS leg
            WHERE leg.transaction_id = t.id AND t.type = 'journal'
            GROUP BY leg.wallet_id
        ) AS place
        WHERE t.status IN ('COMPLETED', 'REVERSED') AND terms.execute_at IS NULL
        ORDER BY place.wallet, place.sequence
        """
    )
    pairs: list[Pair] = []
    latest: dict[object, tuple[Promise, bool]] = {}
    for row in rows:
        tries = attempts[row["key"]]
        one, wallet = tries[0], row["wallet"]
        before, is_usable = latest.get(wallet, (one, False))
        if is_usable and len(tries) == 1 and row["is_plain"]:
            pairs.append(Pair(before, one))
        sent_s = min(each.sent_s for each in tries)
        is_latest = wallet not in latest or sent_s > before.sent_s
        latest[wallet] = (replace(one, sent_s=max(sent_s, before.sent_s)), False)
        if is_latest and len(tries) == 1:
            latest[wallet] = (one, True)
    return pairs


def turned(run: Run, directory: Path, pair: Pair) -> Run:
    """Return the run as if the second of a pair had been accepted before the first was sent."""

    def change(one: Promise) -> list[Promise]:
        if one.idempotency_key != pair.second.idempotency_key:
            return [one]
        answered_s = pair.first.sent_s - _MOMENT_S
        return [replace(one, sent_s=answered_s - 1, answered_s=answered_s)]

    return rewritten(run, directory, change)


async def _pair(run: Run, books: Connection, fits: Callable[[Pair], bool]) -> Pair:
    return next(pair for pair in await _pairs(run, books) if fits(pair))


async def _verdict(run: Run, **changes: object) -> Verdict:
    terms = OrderTerms()
    return await check(
        run.doors,
        run.journal,
        run.events,
        terms=replace(terms, **changes),  # type: ignore[arg-type]
        batch_size=BATCH_SIZE,
    )


def _doors(first: Door, second: Door) -> Callable[[Pair], bool]:
    return lambda pair: (pair.first.door, pair.second.door) == (first, second)


def _is_overtaken(verdict: Verdict, pair: Pair) -> bool:
    found = [(one.invariant, one.subject) for one in verdict.breaches]
    return found == [("O", f"key {pair.second.idempotency_key}")]


@pytest.mark.parametrize("overtaker", list(Door))
async def test_what_was_recorded_is_overtaken_through_neither_door(
    overtaker: Door, copy: Run, tmp_path: Path, books: Connection
) -> None:
    pair = await _pair(copy, books, _doors(overtaker, Door.HTTP))

    verdict = await _verdict(turned(copy, tmp_path, pair))

    assert _is_overtaken(verdict, pair)
    assert pair.first.idempotency_key in verdict.breaches[0].detail


async def test_another_client_of_the_same_submitter_does_not_overtake(
    copy: Run, tmp_path: Path, books: Connection
) -> None:
    pair = await _pair(
        copy,
        books,
        lambda pair: pair.first.client != pair.second.client and pair.second.door is Door.HTTP,
    )

    assert _is_overtaken(await _verdict(turned(copy, tmp_path, pair)), pair)


async def test_a_deposit_keeps_its_place_among_a_wallet_s_transactions(
    copy: Run, tmp_path: Path, books: Connection
) -> None:
    pair = await _pair(
        copy,
        books,
        lambda pair: (
            pair.second.door is Door.HTTP
            and pair.second.command is not None
            and pair.second.command.source_wallet_id is None
        ),
    )

    assert _is_overtaken(await _verdict(turned(copy, tmp_path, pair)), pair)


async def test_what_was_confirmed_is_not_overtaken_over_amqp_while_bindings_stay(
    copy: Run, tmp_path: Path, books: Connection
) -> None:
    pair = await _pair(copy, books, _doors(Door.AMQP, Door.AMQP))
    run = turned(copy, tmp_path, pair)

    assert _is_overtaken(await _verdict(run), pair)
    assert (await _verdict(run, is_confirmed_order_kept=False)).breaches == []


async def test_http_before_what_was_only_confirmed_is_counted_apart(
    copy: Run, tmp_path: Path, books: Connection
) -> None:
    pair = await _pair(copy, books, _doors(Door.HTTP, Door.AMQP))

    verdict = await _verdict(turned(copy, tmp_path, pair))

    assert verdict.breaches == []
    assert verdict.crossed == 1


async def test_only_what_a_deleted_queue_held_may_come_late(
    copy: Run, tmp_path: Path, books: Connection
) -> None:
    """Waiting for the reconciler is no excuse by itself: a 202 without its announcement has one."""
    pair = await _pair(copy, books, lambda pair: pair.second.door is Door.HTTP)
    await books.execute(
        "UPDATE transactions SET completed_at = created_at + $2 WHERE idempotency_key = $1",
        pair.second.idempotency_key,
        _LATE,
    )
    run = turned(copy, tmp_path, pair)
    around = (pair.first.sent_s - 1, pair.first.sent_s)

    assert _is_overtaken(await _verdict(run), pair)
    lost = await _verdict(run, losses=[around])
    assert lost.breaches == []
    assert lost.late == 1


async def test_with_several_partitions_a_journal_s_reversal_has_no_place_of_its_own(
    copy: Run, tmp_path: Path, books: Connection
) -> None:
    """It is posted where the journal was: where one of its wallets is, and nobody says which."""
    pair = await _pair(
        copy,
        books,
        lambda pair: (
            pair.second.door is Door.HTTP
            and pair.first.command is not None
            and pair.first.command.type == "reversal"
        ),
    )
    assert pair.first.command is not None
    assert pair.first.command.terms is not None
    run = turned(copy, tmp_path, pair)
    assert _is_overtaken(await _verdict(run, partitions=4), pair)

    # What it reverses passes for a journal; other invariants may mind that.
    await books.execute("ALTER TABLE transactions DISABLE TRIGGER ALL")
    await books.execute(
        "UPDATE transactions SET type = 'journal' WHERE id = $1", pair.first.command.terms.other_id
    )

    assert "O" in {one.invariant for one in (await _verdict(run)).breaches}
    found = await _verdict(run, partitions=4)
    assert "O" not in {one.invariant for one in found.breaches}
