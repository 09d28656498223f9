"""What operators do with dead letters: look, replay, discard; each act leaves a trail."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias, assert_never
from uuid import UUID

import asyncpg
import structlog

from contracts.dead_letters import (
    BODY_LISTED_BYTES_MAX,
    BODY_SHOWN_BYTES_MAX,
    GROUP_HOURS,
    GROUPS_MAX,
    DeadLetterFate,
)
from contracts.messages import RESULT_TYPE, DeadLetterReason, result_body
from contracts.problems import ContractError
from contracts.record import (
    RecordedRow,
    Submission,
    have_terms,
    recorded_rows,
    recording_arguments,
)
from contracts.representations.pages import PAGE_LIMIT_MAX
from contracts.requests.references import other_id, resolved
from dead_letters import metrics
from dead_letters.model import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterGroups,
    DeadLetterNotFoundError,
    DeadLetterOutcome,
    DeadLetterPage,
    ReasonCounts,
    dead_letter_of,
    groups_of,
)
from dead_letters.replay import (
    DETAIL_MAX,
    OweAgain,
    PostAgain,
    RecordAgain,
    SendAgain,
    StillPoison,
    conflicts_of,
    plan_replay,
    posting_detail,
    recording_detail,
)
from ledger.post import REFUSAL_DETAILS
from ledger.words import FailureCode
from runtime.access.submitters import UpstreamSight, rendered_for
from runtime.amqp.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.amqp.republishing import RecordedTransaction, recorded_messages, recorded_transaction
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.posting_again import make_sure_of_posting
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, Window, examine

COUNTED_MAX: Final = 100_000
"""Rows that one count examines: under a second."""
GROUPED_MAX: Final = 20_000
"""Rows that one grouping examines: the workbench does so each time that it is opened."""
CONFIRM_TIMEOUT_S: Final = 5.0
ACQUIRE_TIMEOUT_S: Final = 10.0
"""For a database connection: the library waits for ever by default."""
FALLBACK_AFTER_S: Final = 10.0
"""When the reconciler publishes what a replay could not."""

BEFORE_ALL: Final = UUID(int=0)
_BEHIND_ALL: Final = UUID(int=2**128 - 1)

Acted: TypeAlias = tuple[DeadLetterOutcome, list[RecordedTransaction]]
"""What became of a dead letter, and what is to be posted."""
Act: TypeAlias = Callable[[Connection, DeadLetter], Awaitable[Acted]]
"""What is done with an open dead letter."""

log = structlog.get_logger()


class DeadLetters:
    """The table of dead letters, for operators at either door."""

    def __init__(self, *, pool: Pool, publisher: Publisher, partitions: int) -> None:
        self._pool = pool
        self._publisher = publisher
        self._partitions = partitions
        self._sql = load_queries("dead_letters")
        self._sight = UpstreamSight()

    async def page(
        self, wanted: DeadLetterFilter, *, cursor: UUID | None = None, limit: int = 50
    ) -> DeadLetterPage:
        """Return a page, newest first, with the beginning of each body."""
        start = _BEHIND_ALL if cursor is None else cursor
        limit = min(limit, PAGE_LIMIT_MAX)
        if wanted.transaction_id is None:
            window = await self._examine("examine_newest", wanted, start=start, limit=limit)
        else:
            window = await self._examine(
                "examine_of_transaction", wanted, wanted.transaction_id, start=start, limit=limit
            )
        rows = await self._pool.fetch(
            self._sql["read_dead_letters"], window.matches, BODY_LISTED_BYTES_MAX
        )
        return DeadLetterPage([dead_letter_of(row) for row in rows], window.next_start)

    async def window(
        self, wanted: DeadLetterFilter, *, after: UUID = BEFORE_ALL, limit: int
    ) -> Window[UUID]:
        """Return ids behind `after`, oldest first, and where the next ones start."""
        return await self._examine("examine_oldest", wanted, start=after, limit=limit)

    async def count_by_reason(self, wanted: DeadLetterFilter) -> ReasonCounts:
        """Return how many there are for each reason, among the newest COUNTED_MAX."""
        rows = await self._pool.fetch(
            self._sql["count_by_reason"], COUNTED_MAX, *_parameters(wanted)
        )
        counts = {row["reason"]: row["dead_letters"] for row in rows if row["dead_letters"]}
        return ReasonCounts(counts, sum(row["examined"] for row in rows) < COUNTED_MAX)

    async def groups(self, wanted: DeadLetterFilter) -> DeadLetterGroups:
        """Return the largest groups that say the same, among the newest GROUPED_MAX."""
        rows = await self._pool.fetch(
            self._sql["group_dead_letters"], GROUPED_MAX, *_parameters(wanted), GROUP_HOURS
        )
        groups = groups_of(rows)
        is_complete = sum(row["examined"] for row in rows) < GROUPED_MAX
        return DeadLetterGroups(
            groups[:GROUPS_MAX], is_complete=is_complete and len(groups) <= GROUPS_MAX
        )

    async def show(self, dead_letter_id: UUID) -> DeadLetter:
        """Return one with its body up to BODY_SHOWN_BYTES_MAX; raises DeadLetterNotFoundError."""
        row = await self._pool.fetchrow(
            self._sql["read_dead_letters"], [dead_letter_id], BODY_SHOWN_BYTES_MAX
        )
        return dead_letter_of(_existing(row, dead_letter_id))

    async def body(self, dead_letter_id: UUID) -> bytes:
        """Return the whole body of one; raises DeadLetterNotFoundError."""
        row = await self._pool.fetchrow(self._sql["read_body"], dead_letter_id)
        body: bytes = _existing(row, dead_letter_id)["body"]
        return body

    async def select(self, wanted: DeadLetterFilter) -> AsyncIterator[UUID]:
        """Yield the ids of all that are meant, oldest first, so that replays keep the order."""
        after: UUID | None = BEFORE_ALL
        while after is not None:
            window = await self.window(wanted, after=after, limit=PAGE_LIMIT_MAX)
            for dead_letter_id in window.matches:
                yield dead_letter_id
            after = window.next_start

    async def replay(
        self,
        dead_letter_id: UUID,
        *,
        actor: str,
        address: str | None = None,
        request_id: str | None = None,
        dry_run: bool = False,
    ) -> DeadLetterOutcome:
        """Give a message another chance, under its original key and submitter.

        Safe to repeat: what was completed long ago stays as it is. A message that is still poison
        is refused and stays open. Raises DeadLetterNotFoundError, and what the database raises;
        a broker that is down only delays the posting, which the reconciler then asks for.
        """
        trail = Trail(actor, address, request_id)
        replay = partial(self._replay, dry_run=dry_run)
        return await self._act(dead_letter_id, replay, trail, dry_run=dry_run)

    async def discard(
        self,
        dead_letter_id: UUID,
        *,
        actor: str,
        address: str | None = None,
        request_id: str | None = None,
        dry_run: bool = False,
        note: str | None = None,
    ) -> DeadLetterOutcome:
        """Give a message up: its transaction, if it is QUARANTINED, becomes FAILED.

        An event that is given up is never told; its transaction stays as it is. `note` says why,
        in the audit log.

        Raises DeadLetterNotFoundError, and what the database raises.
        """
        trail = Trail(actor, address, request_id)
        return await self._act(dead_letter_id, self._discard, trail, dry_run=dry_run, note=note)

    async def _examine(
        self, query: str, wanted: DeadLetterFilter, *subject: UUID, start: UUID, limit: int
    ) -> Window[UUID]:
        async def step(position: UUID, count: int) -> Examined[UUID]:
            rows = await self._pool.fetch(
                self._sql[query], position, count, *_parameters(wanted), *subject
            )
            return [(row["id"], row["is_match"]) for row in rows]

        return await examine(step, start=start, limit=limit)

    async def _act(
        self,
        dead_letter_id: UUID,
        act: Act,
        trail: Trail,
        *,
        dry_run: bool,
        note: str | None = None,
    ) -> DeadLetterOutcome:
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            # A dry run does everything, and then nothing of it happened.
            transaction = connection.transaction()
            await transaction.start()
            try:
                outcome, pending = await self._act_locked(connection, dead_letter_id, act)
                await self._audit(connection, outcome, trail, note)
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

    async def _act_locked(self, connection: Connection, dead_letter_id: UUID, act: Act) -> Acted:
        row = await connection.fetchrow(
            self._sql["lock_dead_letter"], dead_letter_id, BODY_SHOWN_BYTES_MAX
        )
        letter = dead_letter_of(_existing(row, dead_letter_id))
        if letter.replayed_at is not None or letter.discarded_at is not None:
            detail = f"it was {letter.state} before"
            return DeadLetterOutcome(letter.id, DeadLetterFate.UNCHANGED, detail), []
        return await act(connection, letter)

    async def _replay(self, connection: Connection, letter: DeadLetter, *, dry_run: bool) -> Acted:
        plan = plan_replay(letter)
        match plan:
            case StillPoison(detail):
                return DeadLetterOutcome(letter.id, DeadLetterFate.REFUSED, detail), []
            case PostAgain():
                outcome, pending = await self._post_again(connection, letter, plan)
            case RecordAgain():
                outcome, pending = await self._record_again(connection, letter, plan)
            case OweAgain():
                outcome, pending = await self._owe_again(connection, letter, plan)
            case SendAgain():
                outcome, pending = await self._send_again(connection, letter, plan, dry_run=dry_run)
            case other:
                assert_never(other)
        if outcome.fate is DeadLetterFate.REPLAYED:
            await connection.execute(self._sql["mark_replayed"], letter.id)
        return outcome, pending

    async def _post_again(
        self, connection: Connection, letter: DeadLetter, plan: PostAgain
    ) -> Acted:
        if plan.released is not None:
            await connection.execute(self._sql["release_quarantined"], plan.released)
        pending = await self._pending(connection, plan.transaction_ids)
        # With each member of an atomic batch all of its others, named or not.
        ids = tuple(dict.fromkeys([*plan.transaction_ids, *(one.id for one in pending)]))
        detail = posting_detail(named=len(ids), pending=len(pending))
        return DeadLetterOutcome(letter.id, DeadLetterFate.REPLAYED, detail, ids), pending

    async def _record_again(
        self, connection: Connection, letter: DeadLetter, plan: RecordAgain
    ) -> Acted:
        """Record what fits; as long as a key stands for other content, the letter stays open."""
        savepoint = connection.transaction()
        await savepoint.start()
        try:
            rows = await self._record(connection, plan.submissions)
        except ContractError as error:
            await savepoint.rollback()
            detail = f"{DeadLetterReason.INVALID_MESSAGE}: {error.detail}"[:DETAIL_MAX]
            return DeadLetterOutcome(letter.id, DeadLetterFate.REFUSED, detail), []
        conflicts = conflicts_of(plan.submissions, rows)
        if conflicts and plan.is_atomic:
            await savepoint.rollback()
            detail = f"{len(conflicts)} keys of the atomic batch stand for other content"
            return DeadLetterOutcome(letter.id, DeadLetterFate.REFUSED, detail), []
        await savepoint.commit()
        fate = DeadLetterFate.REFUSED if conflicts else DeadLetterFate.REPLAYED
        ids = tuple(row.id for row in rows if row.is_same)
        outcome = DeadLetterOutcome(letter.id, fate, recording_detail(rows, conflicts), ids)
        return outcome, await self._pending(connection, ids)

    async def _send_again(
        self, connection: Connection, letter: DeadLetter, plan: SendAgain, *, dry_run: bool
    ) -> Acted:
        """Send a result before the letter is marked: at worst its sender has it twice."""
        rows = await self._record(connection, plan.submissions)
        ids = [row.id for row in rows if row.is_same]
        found = await connection.fetch(self._sql["read_transactions"], ids)
        theirs = await self._sight.theirs(connection, plan.submitter, found)
        try:
            views = {row["id"]: rendered_for(row, plan.submitter, theirs) for row in found}
            result = Outgoing(
                exchange="",
                routing_key=plan.queue,
                body=result_body(views[one] for one in ids),
                type=RESULT_TYPE,
                correlation_id=plan.correlation_id,
            )
            if not dry_run:
                await self._publisher.publish(result, timeout_s=CONFIRM_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  # whatever it is, the letter stays open
            detail = f"its result was not sent: {type(error).__name__}: {error}"[:DETAIL_MAX]
            return DeadLetterOutcome(letter.id, DeadLetterFate.REFUSED, detail), []
        detail = f"its result is sent to '{plan.queue}'"
        outcome = DeadLetterOutcome(letter.id, DeadLetterFate.REPLAYED, detail, tuple(ids))
        return outcome, await self._pending(connection, ids)

    async def _record(
        self, connection: Connection, submissions: Sequence[Submission]
    ) -> list[RecordedRow]:
        """Record submissions; raises ContractError for one that does not fit what it names."""
        named = [one for each in submissions if (one := other_id(each.command)) is not None]
        read = self._sql["read_transactions"]
        others = {row["id"]: row for row in await connection.fetch(read, named)} if named else {}
        known = [
            one._replace(command=resolved(one.command, others.get(other_id(one.command))))
            for one in submissions
        ]
        name = "record_requested_with_terms" if have_terms(known) else "record_requested"
        rows = await connection.fetch(self._sql[name], *recording_arguments(known))
        return recorded_rows(rows, len(known))

    async def _owe_again(self, connection: Connection, letter: DeadLetter, plan: OweAgain) -> Acted:
        await connection.execute(
            self._sql["owe_event_again"],
            plan.origin_id,
            plan.event_type,
            plan.transaction_id,
            plan.occurred_at,
            plan.wallets,
        )
        detail = "its event is owed again, under the same event id"
        ids = (plan.transaction_id,)
        return DeadLetterOutcome(letter.id, DeadLetterFate.REPLAYED, detail, ids), []

    async def _discard(self, connection: Connection, letter: DeadLetter) -> Acted:
        detail = "given up"
        failed: tuple[UUID, ...] = ()
        if letter.is_event:
            detail = "given up: its event is never told, its transaction stays as it is"
        elif letter.transaction_id is not None:
            rows = await connection.fetch(
                self._sql["fail_quarantined"],
                letter.transaction_id,
                f"its message was discarded: {letter.reason}",
                FailureCode.BATCH_FAILED,
                REFUSAL_DETAILS[FailureCode.BATCH_FAILED],
            )
            failed = tuple(row["id"] for row in rows)
            if len(failed) > 1:
                detail = f"given up: the {len(failed)} transactions of its atomic batch FAILED"
            elif failed:
                detail = "given up: its transaction FAILED"
        await connection.execute(self._sql["mark_discarded"], letter.id)
        return DeadLetterOutcome(letter.id, DeadLetterFate.DISCARDED, detail, failed), []

    async def _audit(
        self, connection: Connection, outcome: DeadLetterOutcome, trail: Trail, note: str | None
    ) -> None:
        if outcome.fate is DeadLetterFate.UNCHANGED:
            return
        await note_act(
            connection,
            trail,
            action=f"dead_letter.{_ACTIONS[outcome.fate]}",
            subject=f"dead_letter:{outcome.dead_letter_id}",
            detail={
                "detail": outcome.detail,
                "transaction_ids": [str(one) for one in outcome.transaction_ids],
                **({} if note is None else {"note": note}),
            },
        )

    async def _pending(
        self, connection: Connection, transaction_ids: Sequence[UUID]
    ) -> list[RecordedTransaction]:
        """Put what is still to be posted on the reconciler's retry queue, and return it."""
        if not transaction_ids:
            return []
        rows = await make_sure_of_posting(connection, transaction_ids, after_s=FALLBACK_AFTER_S)
        return [recorded_transaction(row) for row in rows]

    async def _publish(self, pending: Sequence[RecordedTransaction]) -> None:
        try:
            for group in recorded_messages(pending, self._partitions):
                await self._publisher.publish(group.outgoing, timeout_s=CONFIRM_TIMEOUT_S)
        except NotConfirmedError as error:
            log.warning("replay_left_to_reconciler", error=repr(error))


_ACTIONS: Final = {
    DeadLetterFate.REPLAYED: "replayed",
    DeadLetterFate.DISCARDED: "discarded",
    DeadLetterFate.REFUSED: "replay_refused",
}


def _parameters(wanted: DeadLetterFilter) -> tuple[str | datetime | None, ...]:
    state = None if wanted.state is None else wanted.state.value
    return (wanted.reason, wanted.submitter, state, wanted.fingerprint, wanted.until)


def _existing(row: asyncpg.Record | None, dead_letter_id: UUID) -> asyncpg.Record:
    if row is None:
        raise DeadLetterNotFoundError(f"there is no dead letter {dead_letter_id}")
    return row
