"""Reviews: what operators do with transactions that a rule holds back; each act leaves a trail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from contracts.representations.pages import PAGE_LIMIT_MAX
from contracts.representations.review import render_review
from ledger.post import REFUSAL_DETAILS
from ledger.words import FailureCode, ReviewState
from runtime.amqp.publisher import NotConfirmedError, Publisher
from runtime.amqp.republishing import RecordedTransaction, recorded_messages, recorded_transaction
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.posting_again import make_sure_of_posting
from runtime.postgres.queries import load_queries

ACQUIRE_TIMEOUT_S: Final = 10.0
"""For a database connection: the library waits for ever by default."""
CONFIRM_TIMEOUT_S: Final = 5.0
FALLBACK_AFTER_S: Final = 10.0
"""When the reconciler announces what an approval could not."""

log = structlog.get_logger()


class ReviewNotFoundError(Exception):
    """There is no such review; its text names it."""


class ReviewDecidedError(Exception):
    """The review was decided before; its text says how."""


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """A page of reviews, newest first; `next_cursor`: behind which one the next page starts."""

    items: Sequence[Mapping[str, Any]]
    next_cursor: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What an operator decides, who that is, and over HTTP from where by which request."""

    state: ReviewState
    reason: str
    trail: Trail


class Reviews:
    """The table of reviews, for operators at either door."""

    def __init__(self, *, pool: Pool, publisher: Publisher, partitions: int) -> None:
        self._pool = pool
        self._publisher = publisher
        self._partitions = partitions
        self._sql = load_queries("runtime.screening")

    async def page(
        self, state: ReviewState | None, *, before: UUID | None = None, limit: int = 50
    ) -> ReviewPage:
        """Return a page of those in a state, or of all, newest first."""
        limit = min(limit, PAGE_LIMIT_MAX)
        states = list(ReviewState) if state is None else [state]
        rows = await self._pool.fetch(self._sql["list_reviews"], states, before, limit + 1)
        page = rows[:limit]
        return ReviewPage(
            [render_review(row) for row in page], page[-1]["id"] if len(rows) > limit else None
        )

    async def approve(self, review_id: UUID, *, reason: str, trail: Trail) -> Mapping[str, Any]:
        """Overrule a rule for one transaction, and return the review.

        If no other review of it is open, it is announced again and posted without that rule; all
        others, the ledger's refusals among them, still apply. A broker that is down only delays
        that. Raises ReviewNotFoundError, ReviewDecidedError, and what the database raises.
        """
        decision = Decision(state=ReviewState.APPROVED, reason=reason, trail=trail)
        return await self._decide(review_id, decision)

    async def refuse(self, review_id: UUID, *, reason: str, trail: Trail) -> Mapping[str, Any]:
        """End a transaction as FAILED, with all of its atomic batch, and return the review.

        Its other reviews are refused with it. Raises as `approve` does.
        """
        decision = Decision(state=ReviewState.REFUSED, reason=reason, trail=trail)
        return await self._decide(review_id, decision)

    async def _decide(self, review_id: UUID, decision: Decision) -> Mapping[str, Any]:
        pending: list[RecordedTransaction] = []
        async with (
            self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection,
            connection.transaction(),
        ):
            review = await self._locked(connection, review_id)
            transaction_id = review["transaction_id"]
            # None of them: the transaction has ended by other means, and the decision is noted.
            ids = await connection.fetchval(self._sql["lock_held"], transaction_id) or []
            await connection.execute(
                self._sql["decide_review"],
                review_id,
                decision.state,
                decision.trail.actor,
                decision.reason,
            )
            if decision.state is ReviewState.REFUSED:
                await self._fail(connection, review, ids, decision)
            elif not await connection.fetchval(self._sql["has_open_review"], ids):
                pending = await self._release(connection, ids)
            await self._audit(connection, review, decision)
            [decided] = await connection.fetch(self._sql["read_review"], review_id)
        await self._announce(pending)
        return render_review(decided)

    async def _locked(self, connection: Connection, review_id: UUID) -> asyncpg.Record:
        """Return an open review, locked with all others of what it holds back.

        Two operators decide one after the other, also on two reviews of one transaction.
        """
        transaction_id = await connection.fetchval(self._sql["find_review"], review_id)
        if transaction_id is None:
            raise ReviewNotFoundError(f"there is no review {review_id}")
        await connection.fetchval(self._sql["lock_held"], transaction_id)
        [review] = await connection.fetch(self._sql["read_review"], review_id)
        if review["state"] != ReviewState.OPEN:
            raise ReviewDecidedError(f"it was {review['state']} before")
        return review

    async def _fail(
        self,
        connection: Connection,
        review: asyncpg.Record,
        ids: Sequence[UUID],
        decision: Decision,
    ) -> None:
        if not ids:
            return
        await connection.execute(
            self._sql["fail_held"],
            ids,
            review["transaction_id"],
            FailureCode.RULE_REFUSED,
            f"the rule '{review['rule']}' refuses the transaction",
            FailureCode.BATCH_FAILED,
            REFUSAL_DETAILS[FailureCode.BATCH_FAILED],
        )
        await connection.execute(
            self._sql["close_reviews"], ids, decision.trail.actor, decision.reason
        )

    async def _release(
        self, connection: Connection, ids: Sequence[UUID]
    ) -> list[RecordedTransaction]:
        """Hold transactions back no longer, and return what is to be announced.

        The retry queue makes sure of that, should what follows this commit fail.
        """
        if not ids:
            return []
        await connection.execute(self._sql["release_held"], ids)
        rows = await make_sure_of_posting(connection, ids, after_s=FALLBACK_AFTER_S)
        return [recorded_transaction(row) for row in rows]

    async def _audit(
        self, connection: Connection, review: asyncpg.Record, decision: Decision
    ) -> None:
        await note_act(
            connection,
            decision.trail,
            action=f"review.{decision.state.lower()}",
            subject=f"review:{review['id']}",
            detail={
                "transaction_id": str(review["transaction_id"]),
                "rule": review["rule"],
                "reason": decision.reason,
            },
        )

    async def _announce(self, pending: Sequence[RecordedTransaction]) -> None:
        try:
            for group in recorded_messages(pending, self._partitions):
                await self._publisher.publish(group.outgoing, timeout_s=CONFIRM_TIMEOUT_S)
        except NotConfirmedError as error:
            log.warning("approval_left_to_reconciler", error=repr(error))
