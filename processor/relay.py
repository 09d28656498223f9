"""The relay: events that commits owe, published, confirmed, and only then forgotten.

Promised: every event at least once; within one relay the oldest first, in the order in which their
transactions were posted. Not promised: that order after a failure, when a round is sent again, or
between two processes that relay at once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from processor.events import Owed, event_message, flights, owed_by, posted_message
from processor.metrics import EVENTS, RELAY_FAILURES
from processor.recent import RecentPostings
from runtime.backoff import Backoff
from runtime.database import UNREACHABLE, Connection, Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.queries import load_queries

OWED_MAX: Final = 16
"""Outbox rows in one round; each stands for the transactions of one batch."""
FLIGHT_MAX: Final = 64
"""Events that are read, built and written together."""
FLIGHTS_MAX: Final = 32
"""Flights that wait for their confirms while the next is built."""
CONFIRM_TIMEOUT_S: Final = 10.0
IDLE_S: Final = 0.5
LEFT_BEHIND_S: Final = 1.0
"""What another process posted is its own to tell of for so long: it need not read it."""
GATHER_S: Final = 0.02
"""After the first commit of a quiet time: what is committed meanwhile is told of in one round."""

_PASSING: Final[tuple[type[BaseException], ...]] = (
    NotConfirmedError,
    asyncpg.PostgresError,
    *UNREACHABLE,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Relayed:
    """What one round did."""

    owed: int
    events: int


class OutboxRelay:
    """Publishes owed events at least once; duplicates share their event_id."""

    def __init__(
        self,
        *,
        pool: Pool,
        publisher: Publisher,
        posted: asyncio.Event,
        recent: RecentPostings | None = None,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        """`posted` wakes the relay; what another process left is found within IDLE_S.

        `recent` saves the reading of what this process posted itself.
        """
        self._pool = pool
        self._publisher = publisher
        self._posted = posted
        self._recent = recent or RecentPostings()
        self._fault_points = fault_points
        self._sql = load_queries("processor")

    async def run(self) -> None:
        """Relay until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=5.0)
        least_age_s = LEFT_BEHIND_S
        while True:
            self._posted.clear()
            try:
                await self._publisher.wait_until_up()
                relayed = await self.run_once(least_age_s=least_age_s)
            except _PASSING as error:
                RELAY_FAILURES.inc()
                log.warning("relay_failed", error=repr(error))
                await asyncio.sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            if relayed.events < FLIGHT_MAX:
                least_age_s = 0.0 if await self._has_posted() else LEFT_BEHIND_S

    async def run_once(self, *, least_age_s: float = 0.0) -> Relayed:
        """Relay the oldest owed events; they stay owed unless every one is confirmed."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(self._sql["lock_outbox"], OWED_MAX, least_age_s)
            if not rows:
                return Relayed(owed=0, events=0)
            owed = [owed_by(row) for row in rows]
            await self._publish(connection, owed)
            await self._fault_points.reach(FaultPoint.RELAY_PUBLISHED)
            outbox_ids = [row["id"] for row in rows]
            await connection.execute(self._sql["delete_outbox"], outbox_ids)
        for one in owed:
            EVENTS.labels(one.event_type).inc(len(one.transaction_ids))
        return Relayed(owed=len(rows), events=sum(len(one.transaction_ids) for one in owed))

    async def _publish(self, connection: Connection, owed: Sequence[Owed]) -> None:
        """Return when every event is confirmed; the next flight is built while others travel."""
        under_way: deque[asyncio.Task[None]] = deque()
        try:
            for flight in flights(owed, FLIGHT_MAX):
                messages = await self._messages(connection, flight)
                if len(under_way) == FLIGHTS_MAX:
                    await under_way.popleft()
                under_way.append(asyncio.ensure_future(self._fly(messages)))
                # Posting goes first: it waits for no more than one flight to be built.
                await asyncio.sleep(0)
            while under_way:
                await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _messages(self, connection: Connection, flight: Sequence[Owed]) -> list[Outgoing]:
        """Build a flight's messages; what is built of a recent batch need not be kept any more."""
        batches = [self._recent.get(owed.outbox_id) for owed in flight]
        unknown = [
            one
            for owed, batch in zip(flight, batches, strict=True)
            if batch is None
            for one in owed.transaction_ids
        ]
        rows = await connection.fetch(self._sql["read_transactions"], unknown) if unknown else []
        read = {row["id"]: row for row in rows}
        messages: list[Outgoing] = []
        for owed, batch in zip(flight, batches, strict=True):
            if batch is None:
                messages += [event_message(owed, read[one]) for one in owed.transaction_ids]
                continue
            posted = batch.rows(owed.start, owed.start + len(owed.transaction_ids))
            messages += [posted_message(owed, row) for row in posted]
            if owed.is_last:
                self._recent.forget(owed.outbox_id)
        return messages

    async def _fly(self, messages: Sequence[Outgoing]) -> None:
        await self._publisher.publish_all(messages, timeout_s=CONFIRM_TIMEOUT_S)

    async def _has_posted(self) -> bool:
        """Whether this process has posted something; no later than IDLE_S."""
        try:
            async with asyncio.timeout(IDLE_S):
                await self._posted.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(GATHER_S)
        return True
