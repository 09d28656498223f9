"""The collector: from the broker's dead-letter queue to the table, nothing lost on the way."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final

import asyncpg
import structlog

from contracts.topology import DEAD_LETTERS
from dead_letters import metrics
from dead_letters.model import CollectedLetter, least_of, letter_of
from runtime.amqp.connection import user_of
from runtime.amqp.consumer import Consumer
from runtime.amqp.incoming import Arrival, DeliveringChannel
from runtime.postgres.pool import ACQUIRE_TIMEOUT_S, Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import is_transient
from runtime.service.fault_points import FaultPoint, FaultPoints
from runtime.service.periodic import Backoff

IN_HAND_MAX: Final = 16
"""Messages in hand at once; of the large ones fewer, as the consumer bounds their octets."""
STORED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bodies of one insert: it must end well within the statement timeout, or it is tried for ever."""
QUIET_MAX_S: Final = math.inf
"""This queue is idle nearly always, which is no reason to begin anew."""

_COLUMNS: Final = tuple(field.name for field in fields(CollectedLetter))

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Delivery:
    channel: DeliveringChannel
    tag: int
    letter: CollectedLetter
    is_least: bool = False
    """Whether the letter is stored in part, since the whole could not be."""

    @property
    def weight(self) -> int:
        """The octets of its body."""
        return len(self.letter.body)


class DeadLetterCollector:
    """Stores dead letters and acks them behind the commit; the broker keeps what is not stored."""

    def __init__(self, url: str, *, pool: Pool, fault_points: FaultPoints | None = None) -> None:
        self._pool = pool
        self._fault_points = fault_points
        self._sql = load_queries("dead_letters")
        self._consumer = Consumer(
            url,
            DEAD_LETTERS,
            name="collect-dead-letters",
            decode=partial(_delivery_of, own_user=user_of(url)),
            prefetch=IN_HAND_MAX,
            quiet_max_s=QUIET_MAX_S,
        )

    @property
    def is_up(self) -> bool:
        """Whether the broker can deliver to us."""
        return self._consumer.is_up

    async def run(self) -> None:
        """Collect until cancelled; what was not acked by then comes again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consumer.run())
            group.create_task(self._collect())

    async def _collect(self) -> None:
        while True:
            deliveries = await self._consumer.take(STORED_BYTES_MAX)
            stored = await self._store(deliveries)
            if self._fault_points is not None:
                await self._fault_points.reach(FaultPoint.DEAD_LETTERS_STORED)
            await self._consumer.ack(stored)

    async def _store(self, deliveries: Sequence[_Delivery]) -> Sequence[_Delivery]:
        """Return those that are stored: all of them, though one may be stored in part.

        Tries until the database answers, or until the channel is gone and the broker delivers
        them again.
        """
        backoff = Backoff(first_s=0.1, most_s=5.0)
        while self._consumer.is_current(deliveries[0]):
            try:
                await self._insert([delivery.letter for delivery in deliveries])
            except Exception as error:  # noqa: BLE001  # what passes is tried again
                metrics.FAILURES.inc()
                log.warning("dead_letters_not_stored", count=len(deliveries), error=repr(error))
                if is_transient(error) or deliveries[0].is_least:
                    # Nothing about a least letter can be in the way: it is the table itself.
                    await asyncio.sleep(backoff.next_delay_s())
                elif len(deliveries) == 1:
                    deliveries = [_in_part(deliveries[0], error)]
                else:
                    return await self._store_each(deliveries)
            else:
                return deliveries
        return []

    async def _store_each(self, deliveries: Sequence[_Delivery]) -> Sequence[_Delivery]:
        stored: list[_Delivery] = []
        for delivery in deliveries:
            stored.extend(await self._store([delivery]))
        return stored

    async def _insert(self, letters: Sequence[CollectedLetter]) -> None:
        columns: list[list[Any]] = [
            [getattr(letter, column) for letter in letters] for column in _COLUMNS
        ]
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(
                self._sql["insert_dead_letters"], *columns
            )
        for row in rows:
            metrics.STORED.labels(row["reason"]).inc()
        log.info("dead_letters_stored", received=len(letters), new=len(rows))


def _delivery_of(arrival: Arrival, *, own_user: str) -> _Delivery:
    channel, tag, properties, body = arrival
    return _Delivery(channel, tag, letter_of(body, properties, own_user=own_user))


def _in_part(delivery: _Delivery, error: Exception) -> _Delivery:
    metrics.IN_PART.inc()
    log.error("dead_letter_stored_in_part", message_id=delivery.letter.message_id)
    return replace(delivery, letter=least_of(delivery.letter, error), is_least=True)
