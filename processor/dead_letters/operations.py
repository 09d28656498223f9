"""What operators do with dead letters: look, replay, discard; each act leaves a trail."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias, assert_never
from uuid import UUID

import orjson
import structlog

from contracts.recording import RecordedRow, recorded_rows, recording_arguments
from contracts.transactions import TransactionType
from processor.dead_letters import metrics
from processor.dead_letters.replay import (
    PostAgain,
    RecordAgain,
    StillPoison,
    conflicts_of,
    plan_replay,
)
from processor.dead_letters.views import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterNotFoundError,
    DeadLetterPage,
    Fate,
    Outcome,
    dead_letter_of,
)
from processor.reconciler.republishing import PendingTransaction, recorded_messages
from runtime.database import Connection, Pool
from runtime.publisher import NotConfirmedError, Publisher
from runtime.queries import load_queries

LIMIT_MAX: Final = 200
"""Dead letters of one page."""
CONFIRM_TIMEOUT_S: Final = 5.0
FALLBACK_AFTER_S: Final = 10.0
"""When the reconciler publishes what a replay could not."""

Act: TypeAlias = Callable[[Connection, DeadLetter], Awaitable[tuple[Outcome, list[UUID]]]]
"""What is done with an open dead letter; also returns the transactions to be posted."""

log = structlog.get_logger()


class DeadLetters:
    """The operators' view on the table of dead letters."""

    def __init__(self, *, pool: Pool, publisher: Publisher, partitions: int) -> None:
        self._pool = pool
        self._publisher = publisher
        self._partitions = partitions
        self._sql = load_queries("processor.dead_letters")
        self._recording_sql = load_queries("processor")["record_transactions"]

    async def page(
        self, wanted: DeadLetterFilter, *, cursor: UUID | None = None, limit: int = 50
    ) -> DeadLetterPage:
        """Return a page, newest first, with the beginning of each body."""
        limit = min(limit, LIMIT_MAX)
        rows = await self._pool.fetch(
            self._sql["list_dead_letters"], *_parameters(wanted), cursor, limit + 1
        )
        items = [dead_letter_of(row) for row in rows[:limit]]
        return DeadLetterPage(items, items[-1].id if len(rows) > limit else None)

    async def count_by_reason(self, wanted: DeadLetterFilter) -> dict[str, int]:
        """Return how many there are for each reason."""
        rows = await self._pool.fetch(self._sql["count_by_reason"], *_parameters(wanted))
        return {row["reason"]: row["dead_letters"] for row in rows}

    async def show(self, dead_letter_id: UUID) -> DeadLetter:
        """Return one with its whole body; raises DeadLetterNotFoundError."""
        row = await self._pool.fetchrow(self._sql["read_dead_letter"], dead_letter_id)
        if row is None:
            raise DeadLetterNotFoundError(f"no dead letter {dead_letter_id}")
        return dead_letter_of(row)

    async def select(self, wanted: DeadLetterFilter) -> AsyncIterator[UUID]:
        """Yield the ids of all that are meant, oldest first, so that replays keep the order."""
        after: UUID | None = None
        while True:
            rows = await self._pool.fetch(
                self._sql["list_dead_letter_ids"], *_parameters(wanted), after, LIMIT_MAX
            )
            for row in rows:
                yield row["id"]
            if len(rows) < LIMIT_MAX:
                return
            after = rows[-1]["id"]

    async def replay(self, dead_letter_id: UUID, *, actor: str, dry_run: bool = False) -> Outcome:
        """Give a message another chance, under its original key and submitter.

        Safe to repeat: what was completed long ago stays as it is. A message that is still poison
        is refused and stays open. Raises DeadLetterNotFoundError, and what the database raises;
        a broker that is down only delays the posting, which the reconciler then asks for.
        """
        return await self._act(dead_letter_id, self._replay, actor=actor, dry_run=dry_run)

    async def discard(self, dead_letter_id: UUID, *, actor: str, dry_run: bool = False) -> Outcome:
        """Give a message up: its transaction, if it is QUARANTINED, becomes FAILED.

        Raises DeadLetterNotFoundError, and what the database raises.
        """
        return await self._act(dead_letter_id, self._discard, actor=actor, dry_run=dry_run)

    async def _act(self, dead_letter_id: UUID, act: Act, *, actor: str, dry_run: bool) -> Outcome:
        async with self._pool.acquire() as connection:
            # A dry run does everything, and then nothing of it happened.
            transaction = connection.transaction()
            await transaction.start()
            try:
                outcome, to_post = await self._act_locked(connection, dead_letter_id, act)
                await self._audit(connection, outcome, actor)
                pending = await self._pending(connection, to_post)
            except BaseException:
                await transaction.rollback()
                raise
            if dry_run:
                await transaction.rollback()
                return outcome
            await transaction.commit()
        metrics.ENDED.labels(outcome.fate.value).inc()
        await self._publish(pending)
        return outcome

    async def _act_locked(
        self, connection: Connection, dead_letter_id: UUID, act: Act
    ) -> tuple[Outcome, list[UUID]]:
        row = await connection.fetchrow(self._sql["lock_dead_letter"], dead_letter_id)
        if row is None:
            raise DeadLetterNotFoundError(f"no dead letter {dead_letter_id}")
        letter = dead_letter_of(row)
        if letter.replayed_at is not None or letter.discarded_at is not None:
            return Outcome(letter.id, Fate.UNCHANGED, f"it was {letter.state} before"), []
        return await act(connection, letter)

    async def _replay(
        self, connection: Connection, letter: DeadLetter
    ) -> tuple[Outcome, list[UUID]]:
        plan = plan_replay(letter)
        match plan:
            case StillPoison(detail):
                return Outcome(letter.id, Fate.REFUSED, detail), []
            case PostAgain(transaction_ids, released):
                if released is not None:
                    await connection.execute(self._sql["release_quarantined"], released)
                outcome = Outcome(letter.id, Fate.REPLAYED, "posted again", tuple(transaction_ids))
            case RecordAgain(submissions):
                recorded = await self._record(connection, plan)
                outcome = _recording_outcome(letter, recorded, conflicts_of(submissions, recorded))
            case other:
                assert_never(other)
        if outcome.fate is Fate.REPLAYED:
            await connection.execute(self._sql["mark_replayed"], letter.id)
        return outcome, list(outcome.transaction_ids)

    async def _record(self, connection: Connection, plan: RecordAgain) -> list[RecordedRow]:
        rows = await connection.fetch(self._recording_sql, *recording_arguments(plan.submissions))
        return recorded_rows(rows, len(plan.submissions))

    async def _discard(
        self, connection: Connection, letter: DeadLetter
    ) -> tuple[Outcome, list[UUID]]:
        detail = "given up"
        failed: tuple[UUID, ...] = ()
        if letter.transaction_id is not None:
            row = await connection.fetchrow(
                self._sql["fail_quarantined"],
                letter.transaction_id,
                f"its message was discarded: {letter.reason}",
            )
            if row is not None and row["is_failed"]:
                detail, failed = "given up: its transaction FAILED", (letter.transaction_id,)
        await connection.execute(self._sql["mark_discarded"], letter.id)
        return Outcome(letter.id, Fate.DISCARDED, detail, failed), []

    async def _audit(self, connection: Connection, outcome: Outcome, actor: str) -> None:
        if outcome.fate is Fate.UNCHANGED:
            return
        detail: dict[str, Any] = {
            "detail": outcome.detail,
            "transaction_ids": [str(one) for one in outcome.transaction_ids],
        }
        await connection.execute(
            self._sql["insert_audit"],
            actor,
            f"dead_letter.{_ACTIONS[outcome.fate]}",
            f"dead_letter:{outcome.dead_letter_id}",
            orjson.dumps(detail).decode(),
        )

    async def _pending(
        self, connection: Connection, transaction_ids: Sequence[UUID]
    ) -> list[PendingTransaction]:
        """Put what is still to be posted on the reconciler's worklist, and return it."""
        if not transaction_ids:
            return []
        rows = await connection.fetch(self._sql["read_pending"], transaction_ids)
        ids = [row["id"] for row in rows]
        await connection.execute(self._sql["insert_stale"], ids, FALLBACK_AFTER_S)
        return [
            PendingTransaction(
                id=row["id"],
                type=TransactionType(row["type"]),
                source_wallet_id=row["source_wallet_id"],
                destination_wallet_id=row["destination_wallet_id"],
            )
            for row in rows
        ]

    async def _publish(self, pending: Sequence[PendingTransaction]) -> None:
        try:
            for group in recorded_messages(pending, self._partitions):
                await self._publisher.publish(group.outgoing, timeout_s=CONFIRM_TIMEOUT_S)
        except NotConfirmedError as error:
            log.warning("replay_left_to_reconciler", error=repr(error))


_ACTIONS: Final = {
    Fate.REPLAYED: "replayed",
    Fate.DISCARDED: "discarded",
    Fate.REFUSED: "replay_refused",
}


def _parameters(wanted: DeadLetterFilter) -> tuple[str | None, ...]:
    return (wanted.reason, wanted.submitter, None if wanted.state is None else wanted.state.value)


def _recording_outcome(
    letter: DeadLetter, recorded: Sequence[RecordedRow], conflicts: Sequence[str]
) -> Outcome:
    """What fits is recorded; as long as a key stands for other content, the letter stays open."""
    ids = tuple(row.id for row in recorded if row.is_same)
    if not conflicts:
        return Outcome(letter.id, Fate.REPLAYED, f"{len(ids)} recorded", ids)
    keys = ", ".join(conflicts[:3])
    detail = f"{len(ids)} recorded; {len(conflicts)} keys stand for other content, such as {keys}"
    return Outcome(letter.id, Fate.REFUSED, detail[:500], ids)
