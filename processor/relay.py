"""The relay: events that commits owe, published, confirmed, and only then forgotten."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import orjson
import structlog

from contracts.identifiers import event_id
from contracts.messages import REQUEST_ID_HEADER, TRACEPARENT_HEADER
from contracts.topology import EVENTS_EXCHANGE
from contracts.views import Json, format_moment, render_event, render_transaction
from processor.metrics import EVENTS, RELAY_FAILURES
from runtime.backoff import Backoff
from runtime.database import UNREACHABLE, Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.publisher import NotConfirmedError, Outgoing, Publisher
from runtime.queries import load_queries

OWED_MAX: Final = 16
"""Outbox rows in one round; each stands for the transactions of one batch."""
IN_FLIGHT_MAX: Final = 500
"""Events that wait for their confirm at once."""
CONFIRM_TIMEOUT_S: Final = 10.0
IDLE_S: Final = 0.5

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
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        """`posted` wakes the relay; another process's commits are found within IDLE_S."""
        self._pool = pool
        self._publisher = publisher
        self._posted = posted
        self._fault_points = fault_points
        self._sql = load_queries("processor")

    async def run(self) -> None:
        """Relay until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while True:
            self._posted.clear()
            try:
                await self._publisher.wait_until_up()
                relayed = await self.run_once()
            except _PASSING as error:
                RELAY_FAILURES.inc()
                log.warning("relay_failed", error=repr(error))
                await asyncio.sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            if relayed.owed == 0:
                await self._wait_for_work()

    async def run_once(self) -> Relayed:
        """Relay the oldest owed events; they stay owed unless every one is confirmed."""
        async with self._pool.acquire() as connection, connection.transaction():
            owed = await connection.fetch(self._sql["lock_outbox"], OWED_MAX)
            if not owed:
                return Relayed(owed=0, events=0)
            ids = [one for row in owed for one in row["transaction_ids"]]
            rows = await connection.fetch(self._sql["read_transactions"], ids)
            views = {row["id"]: row for row in rows}
            events = [_event(row, views[one]) for row in owed for one in row["transaction_ids"]]
            await self._publish(events)
            await self._fault_points.reach(FaultPoint.RELAY_PUBLISHED)
            await connection.execute(self._sql["delete_outbox"], [row["id"] for row in owed])
        for row in owed:
            EVENTS.labels(row["event_type"]).inc(len(row["transaction_ids"]))
        return Relayed(owed=len(owed), events=len(events))

    async def _publish(self, events: Sequence[Outgoing]) -> None:
        for start in range(0, len(events), IN_FLIGHT_MAX):
            chunk = events[start : start + IN_FLIGHT_MAX]
            outcomes = await asyncio.gather(
                *(self._publisher.publish(one, timeout_s=CONFIRM_TIMEOUT_S) for one in chunk),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(IDLE_S):
                await self._posted.wait()
        except TimeoutError:
            return


def _event(owed: asyncpg.Record, transaction: asyncpg.Record) -> Outgoing:
    event_type: str = owed["event_type"]
    body = _event_body(owed["id"], event_type, transaction, format_moment(owed["created_at"]))
    return Outgoing(
        exchange=EVENTS_EXCHANGE,
        routing_key=f"transaction.{event_type}.{transaction['type']}.{transaction['currency']}",
        body=orjson.dumps(body),
        type=f"transaction.{event_type}.v1",
        headers=_trace_headers(transaction),
        # Nobody has to listen: an event without a subscriber is not a failure.
        is_mandatory=False,
    )


def _trace_headers(transaction: asyncpg.Record) -> dict[str, str]:
    """What the request was called, as far as it was called anything."""
    names = {
        TRACEPARENT_HEADER: transaction["traceparent"],
        REQUEST_ID_HEADER: transaction["request_id"],
    }
    return {header: value for header, value in names.items() if value is not None}


def _event_body(
    outbox_id: UUID, event_type: str, transaction: asyncpg.Record, occurred_at: str
) -> Json:
    return render_event(
        render_transaction(transaction),
        event_id=event_id(outbox_id, transaction["id"]),
        event_type=f"transaction.{event_type}",
        occurred_at=occurred_at,
    )
