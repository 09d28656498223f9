"""The relay: events that commits owe, published, confirmed, and only then forgotten.

Promised: every event at least once to every queue that is bound to take it; within one relay the
oldest first, in the order in which their transactions were posted; and that no event keeps the
others waiting: one that cannot be built or written is set aside, one that a subscriber's full queue
refuses is tried again apart from the rest. What no queue takes is neither built nor sent
(processor/events/audience.py). The log of events, if one is kept, and whoever else takes bundles
get a flight in one message.
Not promised: that order after a failure, when a round is sent again, or between two processes that
relay at once. What is refused: processor/events/refused.py.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import asyncpg
import structlog
from aiormq.exceptions import ChannelPreconditionFailed

from contracts.money import UnknownCurrencyError
from processor import metrics
from processor.events.audience import Audience
from processor.events.buffer import EventBuffer
from processor.events.messages import (
    ALL_LANDED,
    BuiltFlight,
    Landing,
    Place,
    Settlement,
    Stretch,
    build,
    bundles_of,
    events_of,
    flights,
    keys_at_most,
    stretch_of,
    tell_set_aside,
)
from processor.events.outbox import Outbox
from processor.events.owed import Owed
from processor.events.refused import (
    CONFIRM_TIMEOUT_S,
    FLIGHT_MAX,
    REFUSED_KEPT_S,
    EventRetries,
)
from processor.traces import EventTraces
from runtime.amqp.connection import loss_as_error
from runtime.amqp.publisher import (
    NotConfirmedError,
    Outgoing,
    Publisher,
    RefusedError,
    UnroutableError,
)
from runtime.postgres.assets import read_assets
from runtime.postgres.pool import UNREACHABLE, Pool
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.periodic import Backoff, is_set_within, one_of, repeat

OWED_MAX: Final = 16
"""Outbox rows in one round; each stands for the transactions of one batch."""
FLIGHTS_MAX: Final = 32
"""Flights that wait for their confirms while the next is built."""
IDLE_S: Final = 0.5
LEFT_BEHIND_S: Final = 1.0
"""What another process posted is its own to tell of for so long: it need not read it."""
GATHER_S: Final = 0.02
"""After the first commit of a quiet time: what is committed meanwhile is told of in one round."""
UNHEARD_GATHER_S: Final = 0.1
"""The same after a round of which no queue took anything: the next one asks for fewer commits."""
ASKING_FLIGHT: Final = 1
"""Events in a round's first flight, which asks whether the log of events takes any, after a round
that was not logged: they are built for nothing then."""

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
    is_heard: bool = True
    """Whether a queue took any of them; true where nothing was asked."""


class OutboxRelay:
    """Publishes owed events at least once; duplicates share their event_id."""

    def __init__(
        self,
        *,
        pool: Pool,
        publisher: Publisher,
        posted: asyncio.Event,
        event_buffer: EventBuffer | None = None,
        fault_points: FaultPoints | None = None,
        refused_kept_s: float = REFUSED_KEPT_S,
        left_behind_s: float = LEFT_BEHIND_S,
        traces: EventTraces | None = None,
    ) -> None:
        """`posted` wakes the relay; what another process left is found within IDLE_S.

        `event_buffer` saves the reading of what this process posted itself. `refused_kept_s` is how
        long an event that a full queue refuses is tried again before it is set aside;
        `left_behind_s` is how long what others posted is left to them.
        """
        self._pool = pool
        self._event_buffer = event_buffer or EventBuffer()
        self._outbox = Outbox(pool, claimant=self._event_buffer.claimant)
        self._publisher = publisher
        self._posted = posted
        self._fault_points = fault_points
        self._traces = traces or EventTraces()
        self._retries = EventRetries(
            outbox=self._outbox, publisher=publisher, kept_s=refused_kept_s, traces=self._traces
        )
        self._is_careful = False
        self._first_flight: int | None = None
        self._left_behind_s = self._least_age_s = left_behind_s
        self._claim_at = 0.0
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
        owed = self._remembered() or await self._claimed(least_age_s)
        if not owed:
            return Relayed(owed=0, events=0)
        settlement = Settlement(owed)
        try:
            async with self._outbox.holding(owed):
                await self._publish(owed, settlement)
        except BaseException:
            # What was built is no longer in memory.
            self._event_buffer.has_others = True
            await self._give_back(settlement)
            raise
        self._is_careful = False
        self._first_flight = None if settlement.is_logged else ASKING_FLIGHT
        self._too_large.clear()
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.RELAY_PUBLISHED)
        await self._end(settlement)
        events = sum(len(one.transaction_ids) for one in owed)
        return Relayed(len(owed), events, is_heard=settlement.unheard.total() < events)

    def _remembered(self) -> Sequence[Owed]:
        """Return the rows of this process's last commits, which were born claimed by it.

        None where others have to be looked for: those of earlier commits, or of other processes.
        """
        if self._is_careful or time.monotonic() >= self._claim_at:
            return ()
        return self._event_buffer.oldest(OWED_MAX)

    async def _claimed(self, least_age_s: float) -> Sequence[Owed]:
        """Claim the oldest rows, of this process or left behind by another."""
        limit = 1 if self._is_careful else OWED_MAX
        self._claim_at = time.monotonic() + IDLE_S
        # What is committed from now on may be more than is claimed.
        self._event_buffer.has_others = False
        try:
            owed = await self._outbox.claim(limit, least_age_s=least_age_s)
        except BaseException:
            self._event_buffer.has_others = True
            raise
        if len(owed) == limit:
            self._event_buffer.has_others = True
        return owed

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
            gather_s = GATHER_S if relayed.is_heard else UNHEARD_GATHER_S
            has_posted = await self._has_posted(gather_s)
            self._least_age_s = 0.0 if has_posted else self._left_behind_s

    async def _end(self, settlement: Settlement) -> None:
        await self._outbox.end(settlement)
        _, aside = settlement.only_ended()
        tell_set_aside(aside)
        for event_type, count in settlement.confirmed.items():
            metrics.EVENTS.labels(event_type).inc(count)
        for event_type, count in settlement.unheard.items():
            metrics.EVENTS_UNHEARD.labels(event_type).inc(count)

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
        under_way = _UnderWay(1 if is_careful else FLIGHTS_MAX)
        this = _Round(settlement, Audience(), under_way, is_careful=is_careful)
        try:
            size = 1 if is_careful else FLIGHT_MAX
            is_unheard = partial(self._is_unheard, this)
            cut = flights(owed, size, first=self._first_flight, is_unheard=is_unheard)
            for number, (parts, unheard, ended) in enumerate(cut):
                stretches = await self._stretches(parts)
                built = None
                if number == 0 or settlement.is_logged:
                    built = await self._built(stretches)
                    await under_way.room()
                    logging = under_way.start(self._log(built, this))
                    if number == 0:
                        await asyncio.shield(logging)
                await self._send_singly(stretches, built, this)
                settlement.pass_over(unheard)
                for outbox_id in ended:
                    self._event_buffer.forget(outbox_id)
                # Posting goes first: it waits for no more than one flight to be built.
                await asyncio.sleep(0)
            await under_way.finish()
        finally:
            await under_way.cancel()

    def _is_unheard(self, this: "_Round", owed: Owed) -> bool:
        """Whether it is known already that nobody receives any event of a row."""
        if this.settlement.is_logged:
            return False
        keys = keys_at_most(owed, self._event_buffer.get(owed.outbox_id))
        return keys is not None and this.audience.is_none(keys)

    async def _send_singly(
        self, stretches: Sequence[Stretch], built: BuiltFlight | None, this: "_Round"
    ) -> None:
        """Let those events go that somebody receives, each in a message of its own."""
        left = stretches
        while left:
            heard, unheard, asks, left = this.audience.step(left)
            this.settlement.pass_over(unheard)
            if not heard:
                continue
            flight = await self._built(heard) if built is None else built.only(heard)
            await this.under_way.room()
            flying = this.under_way.start(self._fly(flight, this, asks=asks))
            if asks is not None:
                this.audience.note(asks, is_heard=await asyncio.shield(flying))

    async def _stretches(self, parts: Sequence[Owed]) -> list[Stretch]:
        """Return a flight with its transactions: from memory, or read."""
        batches = [self._event_buffer.get(part.outbox_id) for part in parts]
        unknown = [
            one
            for part, batch in zip(parts, batches, strict=True)
            if batch is None
            for one in part.transaction_ids
        ]
        rows = await self._outbox.read(unknown)
        return [
            stretch_of(part, rows if batch is None else batch)
            for part, batch in zip(parts, batches, strict=True)
        ]

    async def _built(self, stretches: Sequence[Stretch]) -> BuiltFlight:
        flight = build(stretches)
        if any(isinstance(one, UnknownCurrencyError) for one in flight.broken.values()):
            # A process that stood still for seconds may meet an asset before it has read of it.
            await read_assets(self._pool)
            flight = build(stretches)
        return flight

    async def _log(self, flight: BuiltFlight, this: "_Round") -> bool:
        """Send a flight in bundles; the first of a round finds out whether any queue takes them."""
        settlement = this.settlement
        _leave_out(flight, self._too_large)
        bundles = bundles_of(flight.messages)
        began_ns, landing = time.time_ns(), ALL_LANDED
        try:
            await self._publisher.publish_all(bundles, timeout_s=CONFIRM_TIMEOUT_S)
        except (RefusedError, UnroutableError) as error:
            # No queue takes them; or not any more, which may lawfully be seen at any event.
            if not (settlement.is_logged or error.refused):
                return False
            landing = Landing(events_of(bundles, error.refused))
        except NotConfirmedError as error:
            self._note_size(flight, error, is_careful=this.is_careful)
            raise
        if not settlement.is_logged:
            settlement.begin_log()
        metrics.EVENTS_REFUSED.inc(len(landing.refused))
        settlement.log(flight, landing)
        if self._traces.is_on:
            self._traces.logged(flight, landing, began_ns=began_ns)
        return True

    async def _fly(self, flight: BuiltFlight, this: "_Round", *, asks: str | None) -> bool:
        """Publish a flight, and note what is known of each of its events.

        Return whether a queue takes what has the routing key `asks`: its last event's.
        """
        _leave_out(flight, self._too_large)
        flight.ask(asks)
        began_ns = time.time_ns()
        try:
            landing = await self._published(flight.messages)
        except NotConfirmedError as error:
            self._note_size(flight, error, is_careful=this.is_careful)
            raise
        except Exception:  # noqa: BLE001  # one of them cannot be written, whatever it is
            landing = await self._fly_singly(flight)
        metrics.EVENTS_REFUSED.inc(len(landing.refused))
        this.settlement.land(flight, landing)
        if self._traces.is_on:
            self._traces.sent(flight, landing, began_ns=began_ns)
        return landing.is_heard

    def _note_size(
        self, flight: BuiltFlight, error: NotConfirmedError, *, is_careful: bool
    ) -> None:
        """Remember that the broker closed the channel over one of those in flight, if it did.

        Nobody knows which: the next round sends them one by one, and the one after leaves out what
        it found.
        """
        if _is_too_large(error):
            self._is_careful = True
            if is_careful:
                self._too_large.update(dict.fromkeys(flight.places(), error))

    async def _published(self, messages: Sequence[Outgoing]) -> Landing:
        """Publish messages of which no more than the last one is mandatory."""
        try:
            await self._publisher.publish_all(messages, timeout_s=CONFIRM_TIMEOUT_S)
        except RefusedError as error:
            return Landing(error.refused)
        except UnroutableError as error:
            return Landing(error.refused, is_heard=False)
        return ALL_LANDED

    async def _fly_singly(self, flight: BuiltFlight) -> Landing:
        """Publish a flight's messages one by one; those that cannot be written are left out."""
        refused: list[int] = []
        kept: list[Outgoing] = []
        is_heard = True
        for message, place in zip(flight.messages, flight.places(), strict=True):
            try:
                landing = await self._published([message])
            except NotConfirmedError:
                raise
            except Exception as error:  # noqa: BLE001  # it is set aside, with its error
                flight.broken[place] = error
                continue
            if landing.refused:
                refused.append(len(kept))
            is_heard = landing.is_heard
            kept.append(message)
        flight.messages = kept
        return Landing(refused, is_heard)

    async def _has_posted(self, gather_s: float) -> bool:
        """Whether somebody has said that there is something to publish; no later than IDLE_S.

        What is committed within `gather_s` of it belongs to the same round.
        """
        if not await is_set_within(self._posted, IDLE_S):
            return False
        await asyncio.sleep(gather_s)
        return True


@dataclass(frozen=True, slots=True)
class _Round:
    """What the flights of one round share."""

    settlement: Settlement
    audience: Audience
    under_way: "_UnderWay"
    is_careful: bool
    """Whether each event flies alone: the broker closed the channel over one of them."""


class _UnderWay:
    """Flights of a round that have not landed: so many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: deque[asyncio.Task[bool]] = deque()

    async def room(self) -> None:
        """Wait until another one may go; raises what an earlier one raised."""
        while len(self._tasks) >= self._most:
            await self._tasks.popleft()

    def start(self, flying: Coroutine[Any, Any, bool]) -> "asyncio.Task[bool]":
        """Let a flight go."""
        task = asyncio.ensure_future(flying)
        self._tasks.append(task)
        return task

    async def finish(self) -> None:
        """Return when all have landed."""
        while self._tasks:
            await self._tasks.popleft()

    async def cancel(self) -> None:
        """End those that are left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _tell_failure(error: Exception) -> None:
    metrics.RELAY_FAILURES.inc()
    # What nobody expects is worth an error; the events stay owed either way.
    tell = log.warning if isinstance(error, _PASSING) else log.error
    tell("relay_failed", error=repr(error))


def _is_too_large(error: NotConfirmedError) -> bool:
    """Whether the broker closed the channel over a message: beyond its `max_message_size`, say."""
    return isinstance(error.__cause__, ChannelPreconditionFailed)


def _leave_out(flight: BuiltFlight, broken: Mapping[Place, Exception]) -> None:
    """Take events out of a flight whose error is known already."""
    if not broken:
        return
    kept = [
        message
        for message, place in zip(flight.messages, flight.places(), strict=True)
        if place not in broken
    ]
    flight.broken.update({place: broken[place] for place in flight.places() if place in broken})
    flight.messages = kept
