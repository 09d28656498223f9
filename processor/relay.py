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
from uuid import UUID

import asyncpg
import structlog

from contracts.views import Row
from processor.events import OwedEvent, event_message, owed_events
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
FLIGHTS_MAX: Final = 8
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
            owed = [event for row in rows for event in owed_events(row)]
            await self._publish(connection, owed)
            await self._fault_points.reach(FaultPoint.RELAY_PUBLISHED)
            outbox_ids = [row["id"] for row in rows]
            await connection.execute(self._sql["delete_outbox"], outbox_ids)
        self._recent.forget(outbox_ids)
        for row in rows:
            EVENTS.labels(row["event_type"]).inc(len(row["transaction_ids"]))
        return Relayed(owed=len(rows), events=len(owed))

    async def _publish(self, connection: Connection, owed: Sequence[OwedEvent]) -> None:
        """Return when every event is confirmed; the next flight is built while others travel."""
        flights: deque[asyncio.Task[None]] = deque()
        try:
            for start in range(0, len(owed), FLIGHT_MAX):
                messages = await self._messages(connection, owed[start : start + FLIGHT_MAX])
                if len(flights) == FLIGHTS_MAX:
                    await flights.popleft()
                flights.append(asyncio.ensure_future(self._fly(messages)))
                # Posting goes first: it waits for no more than one flight to be built.
                await asyncio.sleep(0)
            while flights:
                await flights.popleft()
        finally:
            for flight in flights:
                flight.cancel()
            await asyncio.gather(*flights, return_exceptions=True)

    async def _messages(self, connection: Connection, owed: Sequence[OwedEvent]) -> list[Outgoing]:
        transactions: dict[UUID, Row] = {}
        unknown: list[UUID] = []
        for event in owed:
            batch = self._recent.get(event.outbox_id)
            if batch is None:
                unknown.append(event.transaction_id)
            else:
                transactions[event.transaction_id] = batch.row(event.transaction_id)
        rows = await connection.fetch(self._sql["read_transactions"], unknown) if unknown else []
        transactions.update((row["id"], row) for row in rows)
        return [event_message(event, transactions[event.transaction_id]) for event in owed]

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
