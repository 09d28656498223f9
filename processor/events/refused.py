"""Events that a subscriber's full queue refused: tried again, apart from all others.

All events of one routing key go to the same queues, so what a full queue refuses waits in one line
for each. Only the first of a line is tried while the queue is full: the other subscribers get that
one again, under its event id, and nothing else. As soon as it is taken the line follows, in its
order, faster with each success. What is refused in a bundle has a line of its own, of bundles.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from contracts.messages import EVENT_BUNDLE_MAX, DeadLetterReason
from contracts.topology import EVENT_BUNDLES
from processor import metrics
from processor.events.messages import (
    ALL_LANDED,
    BuiltFlight,
    Landing,
    SetAsideEvent,
    build,
    bundles_of,
    events_of,
    not_sent,
    set_aside,
    stretch_of,
    tell_set_aside,
)
from processor.events.outbox import Outbox, Waiting
from processor.events.owed import Owed
from processor.traces import EventTraces
from runtime.amqp.connection import loss_as_error
from runtime.amqp.publisher import Publisher, RefusedError
from runtime.service.periodic import Backoff, one_of, repeat

FLIGHT_MAX: Final = EVENT_BUNDLE_MAX
"""Events that are read, built and written together. Of a line whose queue was full, those in flight
at once: those of them that are refused have reached others."""
CONFIRM_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 1.0
"""How often the lines are looked at: one small statement."""
PROBE_FIRST_S: Final = 0.5
PROBE_MOST_S: Final = 5.0
"""A queue that has room again gets its events within this time."""
TURN_S: Final = 1.0
"""A line that goes forward makes way for the others after this long."""
REFUSED_KEPT_S: Final = 3600.0
"""An event that was refused for so long is an operator's: nobody empties that queue."""

log = structlog.get_logger()


class _Line:
    """How a line goes: the size of its next flight, and when its first is tried again."""

    def __init__(self, key: str) -> None:
        self.is_of_bundles = key == EVENT_BUNDLES
        self.size = 1
        self.due_at = 0.0
        self._backoff = Backoff(first_s=PROBE_FIRST_S, most_s=PROBE_MOST_S)

    def take(self) -> None:
        """A flight was taken."""
        self.size = min(2 * self.size, FLIGHT_MAX)
        self._backoff.reset()

    def refuse(self, now: float) -> None:
        """A flight was refused, or a part of it."""
        self.size = 1
        self.due_at = now + self._backoff.next_delay_s()


class EventRetries:
    """Publishes refused events again; those that are refused for too long become dead letters."""

    def __init__(
        self, *, outbox: Outbox, publisher: Publisher, kept_s: float, traces: EventTraces
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._traces = traces
        self._kept_s = kept_s
        self._lines: dict[str, _Line] = {}

    async def run(self) -> None:
        """Try again until cancelled."""
        # Nothing ends the loop but cancellation.
        await repeat(
            self._round, every_s=LOOK_S, is_passing=one_of(Exception), failed=_tell_retry_failure
        )

    async def _round(self) -> float | None:
        """Give each line its turn; the next round begins at once if one of them goes forward."""
        await self._publisher.wait_until_up()
        with loss_as_error():
            is_more = await self._take_turns()
        return 0 if is_more else None

    async def _take_turns(self) -> bool:
        """Give each line its turn; return whether one of them goes forward."""
        keys = await self._outbox.lines()
        self._lines = {key: self._lines.get(key) or _Line(key) for key in keys}
        metrics.REFUSED_LINES.set(len(keys))
        is_more = False
        for key, line in self._lines.items():
            if line.due_at <= _now():
                is_more |= await self._turn(key, line)
        return is_more

    async def _turn(self, key: str, line: _Line) -> bool:
        """Publish a line's events until one is refused; return whether there may be more."""
        until = _now() + TURN_S
        while _now() < until:
            waiting = await self._outbox.claim_refused(key)
            if waiting is None:
                return False
            left, aside = await self._send(waiting, line)
            await self._outbox.settle_refused(waiting, left, aside)
            tell_set_aside(aside)
            if left:
                line.refuse(_now())
                await self._give_up(key, until)
                return False
        return True

    async def _send(self, waiting: Waiting, line: _Line) -> tuple[list[UUID], list[SetAsideEvent]]:
        """Publish a row's events in their order; return those left, and those set aside."""
        ids = waiting.owed.transaction_ids
        aside: list[SetAsideEvent] = []
        done = 0
        while done < len(ids):
            part = waiting.owed._replace(
                transaction_ids=ids[done : done + line.size],
                positions=waiting.owed.positions[done : done + line.size],
            )
            rows = await self._outbox.read(part.transaction_ids)
            flight = build([stretch_of(part, rows)])
            aside += [not_sent(part, at.transaction_id, e) for at, e in flight.broken.items()]
            done += len(part.transaction_ids)
            refused = await self._publish(flight, line)
            if refused:
                places = flight.places()
                return [*(places[n].transaction_id for n in refused), *ids[done:]], aside
            metrics.EVENTS.labels(part.event_type).inc(len(flight.messages))
            line.take()
        return [], aside

    async def _publish(self, flight: BuiltFlight, line: _Line) -> Sequence[int]:
        """Return which of a flight's events were refused."""
        began_ns, landing, messages = time.time_ns(), ALL_LANDED, flight.messages
        if line.is_of_bundles:
            messages = bundles_of(messages, is_mandatory=False)
        try:
            await self._publisher.publish_all(messages, timeout_s=CONFIRM_TIMEOUT_S)
        except RefusedError as error:
            landing = Landing(events_of(messages, error.refused))
        metrics.EVENTS_REFUSED.inc(len(landing.refused))
        if self._traces.is_on:
            tell = self._traces.logged if line.is_of_bundles else self._traces.sent
            tell(flight, landing, began_ns=began_ns)
        return landing.refused

    async def _give_up(self, key: str, until: float) -> None:
        """Set aside what has waited too long in a line that does not go forward."""
        while _now() < until:
            waiting = await self._outbox.claim_refused(key, least_age_s=self._kept_s)
            if waiting is None:
                return
            aside = [
                self._rejected(waiting.owed, waiting.attempts, one)
                for one in waiting.owed.transaction_ids
            ]
            await self._outbox.settle_refused(waiting, [], aside)
            tell_set_aside(aside)

    def _rejected(self, owed: Owed, attempts: int, transaction_id: UUID) -> SetAsideEvent:
        detail = f"a subscriber's queue refused it for {self._kept_s:g} s, {attempts} attempts"
        return set_aside(owed, transaction_id, DeadLetterReason.EVENT_REJECTED, detail)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _tell_retry_failure(error: Exception) -> None:
    metrics.RELAY_FAILURES.inc()
    log.warning("event_retries_failed", error=repr(error))
