"""The outbox: owed events, claimed for some seconds, and ended in one commit.

No database transaction is open while a relay publishes. A claim whose relay died runs out, and
another relay takes over: its events may come twice then, under the same event ids.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import structlog

from contracts.representations.transaction import Row, format_moment
from processor import metrics
from processor.events.buffer import BORN_CLAIMED_S
from processor.events.messages import SetAsideEvent, Settlement
from processor.events.owed import Owed, owed_by, wallets_after
from runtime.postgres.pool import Connection, Lane, Pool, rows_changed
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import ErrorClass, classify
from runtime.service.periodic import one_of, repeat

LEASE_S: Final = BORN_CLAIMED_S
"""How long a claim holds unless it is renewed: what a relay that died had claimed waits so long."""
RENEW_S: Final = LEASE_S / 3
"""Two renewals may fail before a claim runs out."""
RELEASE_TIMEOUT_S: Final = 1.0
"""For giving claims back; they run out by themselves."""

log = structlog.get_logger()


class Waiting(NamedTuple):
    """A claimed row of refused events: what they are, and how often they were tried."""

    id: UUID
    owed: Owed
    attempts: int


class Outbox:
    """The tables of owed and refused events, as one relay works on them."""

    def __init__(self, pool: Pool, *, claimant: UUID | None = None) -> None:
        """`claimant`: by whom the rows of this process's sessions are born claimed, if they are."""
        self._lane = Lane(pool)
        self._claimant = claimant or uuid4()
        self._sql = load_queries("processor")

    async def claim(self, limit: int, *, least_age_s: float) -> list[Owed]:
        """Claim the oldest owed rows, and those that this relay claimed before; oldest first."""
        async with self._lane.use() as connection:
            rows = await connection.fetch(
                self._sql["claim_outbox"], limit, least_age_s, self._claimant, LEASE_S
            )
        metrics.OUTBOX_AGE.set(max((row["age_s"] for row in rows), default=0.0))
        return [owed_by(row) for row in sorted(rows, key=lambda row: row["id"])]

    @asynccontextmanager
    async def holding(self, owed: Sequence[Owed]) -> AsyncIterator[None]:
        """Keep rows claimed for as long as the body takes."""
        ids = [one.outbox_id for one in owed]
        renewing = asyncio.ensure_future(self._renew(ids))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def end(self, settlement: Settlement) -> None:
        """Delete the rows whose every event is known, if this relay still holds them.

        In the same commit what was refused gets in line, and what is set aside becomes dead
        letters.
        """
        ended = settlement.ended
        refused, aside = settlement.only_ended()
        async with self._lane.use() as connection:
            if refused or aside:
                count = await connection.fetchval(
                    self._sql["end_outbox"],
                    ended,
                    self._claimant,
                    [one.place.outbox_id for one in refused],
                    [one.routing_key for one in refused],
                    [one.place.transaction_id for one in refused],
                    [one.place.outbox_id for one in aside],
                    *_columns(aside),
                )
            else:
                status = await connection.execute(self._sql["delete_outbox"], ended, self._claimant)
                count = rows_changed(status)
        if count < len(ended):
            # Another relay has them now: their events come twice, and it ends them.
            metrics.CLAIMS_LOST.inc(len(ended) - count)
            log.warning("claims_lost", rows=len(ended) - count)

    async def release(self, ids: Sequence[UUID]) -> None:
        """Give claims back, as well as that goes: they run out anyway."""
        with suppress(Exception):
            async with asyncio.timeout(RELEASE_TIMEOUT_S), self._lane.use() as connection:
                await connection.execute(self._sql["release_outbox"], ids, self._claimant)

    async def read(self, transaction_ids: Sequence[UUID]) -> Mapping[UUID, Row]:
        """Return rows of `transaction_views` by their ids; one that cannot be read is left out."""
        if not transaction_ids:
            return {}
        async with self._lane.use() as connection:
            try:
                return await self._fetch(connection, transaction_ids)
            except Exception as error:
                if classify(error) is not ErrorClass.UNKNOWN:
                    raise
                return await self._read_each(connection, transaction_ids)

    async def lines(self) -> list[str]:
        """Return the routing keys whose refused events wait."""
        async with self._lane.use() as connection:
            rows = await connection.fetch(self._sql["list_refused"])
        return [row["routing_key"] for row in rows]

    async def claim_refused(self, routing_key: str, *, least_age_s: float = 0) -> Waiting | None:
        """Claim the first of a line that has waited for so long; None where there is none."""
        async with self._lane.use() as connection:
            row = await connection.fetchrow(
                self._sql["claim_refused"], routing_key, self._claimant, LEASE_S, least_age_s
            )
        if row is None:
            return None
        owed = Owed(
            row["id"],
            row["event_type"],
            format_moment(row["occurred_at"]),
            row["transaction_ids"],
            range(len(row["transaction_ids"])),
            origin_id=row["origin_id"],
            wallets=wallets_after(row["wallets"]),
        )
        return Waiting(row["id"], owed, row["attempts"])

    async def settle_refused(
        self, waiting: Waiting, left: Sequence[UUID], aside: Sequence[SetAsideEvent]
    ) -> None:
        """Keep what is left of a claimed row in its line, and set the others aside."""
        async with self._lane.use() as connection:
            await connection.execute(
                self._sql["settle_refused"], waiting.id, self._claimant, left, *_columns(aside)
            )

    async def _renew(self, ids: Sequence[UUID]) -> None:
        async def renew() -> None:
            async with self._lane.use() as connection:
                await connection.execute(self._sql["renew_outbox"], ids, self._claimant, LEASE_S)

        await repeat(
            renew,
            every_s=RENEW_S,
            is_at_once=False,
            # The end finds out what is still held.
            is_passing=one_of(Exception),
            failed=lambda error: log.warning(
                "claims_not_renewed", rows=len(ids), error=repr(error)
            ),
        )

    async def _fetch(self, connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Row]:
        rows = await connection.fetch(self._sql["read_transactions"], ids)
        return {row["id"]: row for row in rows}

    async def _read_each(self, connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Row]:
        found: dict[UUID, Row] = {}
        for one in ids:
            try:
                found |= await self._fetch(connection, [one])
            except Exception as error:
                if classify(error) is not ErrorClass.UNKNOWN:
                    raise
                log.warning("transaction_unreadable", transaction_id=str(one), error=repr(error))
        return found


def _columns(
    aside: Sequence[SetAsideEvent],
) -> tuple[list[UUID], list[str], list[str], list[bytes]]:
    return (
        [one.place.transaction_id for one in aside],
        [one.reason.value for one in aside],
        [one.detail for one in aside],
        [one.body for one in aside],
    )
