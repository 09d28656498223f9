"""The relay: events that commits owe, published, confirmed, and only then forgotten.

Promised: every event at least once; within one relay the oldest first, in the order in which their
transactions were posted; and that no event keeps the others waiting: one that cannot be built or
written is set aside, one that a subscriber's full queue refuses is tried again apart from the rest.
Not promised: that order after a failure, when a round is sent again, or between two processes that
relay at once.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog
from aiormq.exceptions import ChannelPreconditionFailed

from processor.event_retries import REFUSED_KEPT_S, EventRetries
from processor.events import BuiltFlight, Owed, Place, Source, build, flights
from processor.metrics import EVENTS, EVENTS_REFUSED, RELAY_FAILURES
from processor.outbox import Outbox
from processor.recent import RecentPostings
from processor.set_aside import Settlement, tell_set_aside
from runtime.backoff import Backoff
from runtime.broker import loss_as_error
from runtime.database import UNREACHABLE, Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.periodic import one_of, repeat
from runtime.publisher import NotConfirmedError, Outgoing, Publisher, RefusedError

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
        refused_kept_s: float = REFUSED_KEPT_S,
    ) -> None:
        """`posted` wakes the relay; what another process left is found within IDLE_S.

        `recent` saves the reading of what this process posted itself. `refused_kept_s` is how long
        an event that a full queue refuses is tried again before it is set aside.
        """
        self._outbox = Outbox(pool)
        self._publisher = publisher
        self._posted = posted
        self._recent = recent or RecentPostings()
        self._fault_points = fault_points
        self._retries = EventRetries(
            outbox=self._outbox, publisher=publisher, kept_s=refused_kept_s
        )
        self._is_careful = False
        self._least_age_s = LEFT_BEHIND_S
        self._too_large: dict[Place, NotConfirmedError] = {}

    async def run(self) -> None:
        """Relay until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._relay())
            group.create_task(self._retries.run())

    async def run_once(self, *, least_age_s: float = 0.0) -> Relayed:
        """Relay the oldest owed events; a row stays owed unless all is known of its every event.

        Raises NotConfirmedError, and what the database raises; what is not known then is taken
        again by the next round.
        """
        limit = 1 if self._is_careful else OWED_MAX
        owed = await self._outbox.claim(limit, least_age_s=least_age_s)
        if not owed:
            return Relayed(owed=0, events=0)
        settlement = Settlement(owed)
        try:
            async with self._outbox.holding(owed):
                await self._publish(owed, settlement)
        except BaseException:
            await self._give_back(settlement)
            raise
        self._is_careful = False
        self._too_large.clear()
        await self._fault_points.reach(FaultPoint.RELAY_PUBLISHED)
        await self._end(settlement)
        return Relayed(owed=len(owed), events=sum(len(one.transaction_ids) for one in owed))

    async def _relay(self) -> None:
        # Nothing ends the loop but cancellation.
        await repeat(
            self._round,
            every_s=0,
            is_passing=one_of(Exception),
            failed=_tell_failure,
            backoff=Backoff(first_s=0.2, most_s=5.0),
        )

    async def _round(self) -> None:
        """Relay what is owed, then wait until there may be more."""
        self._posted.clear()
        await self._publisher.wait_until_up()
        with loss_as_error():
            relayed = await self.run_once(least_age_s=self._least_age_s)
        if relayed.events < FLIGHT_MAX:
            self._least_age_s = 0.0 if await self._has_posted() else LEFT_BEHIND_S

    async def _end(self, settlement: Settlement) -> None:
        await self._outbox.end(settlement)
        _, aside = settlement.only_ended()
        tell_set_aside(aside)
        for event_type, count in settlement.confirmed.items():
            EVENTS.labels(event_type).inc(count)

    async def _give_back(self, settlement: Settlement) -> None:
        """End what is known of a round that failed, and let others have the rest at once."""
        await self._outbox.release(settlement.unfinished)
        if settlement.ended:
            try:
                await self._end(settlement)
            except Exception as error:  # noqa: BLE001  # the round's own failure is raised
                log.warning("round_not_ended", error=repr(error))

    async def _publish(self, owed: Sequence[Owed], settlement: Settlement) -> None:
        """Return when all is known of every event; the next flight is built while others travel."""
        is_careful = self._is_careful
        size, flights_max = (1, 1) if is_careful else (FLIGHT_MAX, FLIGHTS_MAX)
        under_way: deque[asyncio.Task[None]] = deque()
        try:
            for parts in flights(owed, size):
                flight = await self._built(parts)
                if len(under_way) == flights_max:
                    await under_way.popleft()
                flying = self._fly(flight, settlement, is_careful=is_careful)
                under_way.append(asyncio.ensure_future(flying))
                # Posting goes first: it waits for no more than one flight to be built.
                await asyncio.sleep(0)
            while under_way:
                await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _built(self, parts: Sequence[Owed]) -> BuiltFlight:
        """Build a flight's messages; what is built of a recent batch need not be kept any more."""
        batches = [self._recent.get(part.outbox_id) for part in parts]
        unknown = [
            one
            for part, batch in zip(parts, batches, strict=True)
            if batch is None
            for one in part.transaction_ids
        ]
        rows = await self._outbox.read(unknown)
        sources: list[Source] = [rows if batch is None else batch for batch in batches]
        flight = build(parts, sources)
        for part, batch in zip(parts, batches, strict=True):
            if batch is not None and part.is_last:
                self._recent.forget(part.outbox_id)
        return flight

    async def _fly(self, flight: BuiltFlight, settlement: Settlement, *, is_careful: bool) -> None:
        """Publish a flight, and note what is known of each of its events."""
        refused: Sequence[int] = ()
        if self._too_large:
            _leave_out(flight, self._too_large)
        try:
            await self._publisher.publish_all(flight.messages, timeout_s=CONFIRM_TIMEOUT_S)
        except RefusedError as error:
            refused = error.refused
        except NotConfirmedError as error:
            if _is_too_large(error):
                # The broker closed the channel over one of those in flight, and nobody knows which:
                # the next round sends them one by one, and the one after leaves out what it found.
                self._is_careful = True
                if is_careful:
                    self._too_large.update(dict.fromkeys(flight.places(), error))
            raise
        except Exception:  # noqa: BLE001  # one of them cannot be written, whatever it is
            refused = await self._fly_singly(flight)
        EVENTS_REFUSED.inc(len(refused))
        settlement.land(flight, refused)

    async def _fly_singly(self, flight: BuiltFlight) -> list[int]:
        """Publish a flight's messages one by one; return which of those left were refused."""
        refused: list[int] = []
        kept: list[Outgoing] = []
        for message, place in zip(flight.messages, flight.places(), strict=True):
            try:
                await self._publisher.publish(message, timeout_s=CONFIRM_TIMEOUT_S)
            except RefusedError:
                refused.append(len(kept))
            except NotConfirmedError:
                raise
            except Exception as error:  # noqa: BLE001  # it is set aside, with its error
                flight.broken[place] = error
                continue
            kept.append(message)
        flight.messages = kept
        return refused

    async def _has_posted(self) -> bool:
        """Whether this process has posted something; no later than IDLE_S."""
        try:
            async with asyncio.timeout(IDLE_S):
                await self._posted.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(GATHER_S)
        return True


def _tell_failure(error: Exception) -> None:
    RELAY_FAILURES.inc()
    # What nobody expects is worth an error; the events stay owed either way.
    tell = log.warning if isinstance(error, _PASSING) else log.error
    tell("relay_failed", error=repr(error))


def _is_too_large(error: NotConfirmedError) -> bool:
    """Whether the broker closed the channel over a message: beyond its `max_message_size`, say."""
    return isinstance(error.__cause__, ChannelPreconditionFailed)


def _leave_out(flight: BuiltFlight, broken: Mapping[Place, Exception]) -> None:
    """Take events out of a flight whose error is known already."""
    kept = [
        message
        for message, place in zip(flight.messages, flight.places(), strict=True)
        if place not in broken
    ]
    flight.broken.update({place: broken[place] for place in flight.places() if place in broken})
    flight.messages = kept
