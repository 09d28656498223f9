"""The collector: from the broker's dead-letter queue to the table, nothing lost on the way."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import asyncpg
import structlog
from aiormq.abc import DeliveredMessage

from contracts.topology import DEAD_LETTERS
from processor.dead_letters import metrics
from processor.dead_letters.letter import Letter, least_of, letter_of
from runtime.backoff import Backoff
from runtime.broker import UNREACHABLE, BrokerLink, Channel, loss_as_error, user_of
from runtime.database import ACQUIRE_TIMEOUT_S, Pool
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.queries import load_queries
from runtime.resilience.error_classification import Fate, classify
from runtime.topology import TopologyError, check_queue

IN_HAND_MAX: Final = 16
"""Messages in hand at once: with the broker's usual bound of 16 MiB a message, 256 MiB of them."""
STORED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bodies of one insert: it must end well within the statement timeout, or it is tried for ever."""
WATCH_INTERVAL_S: Final = 5.0
SECOND_LOOK_S: Final = 0.5
"""A message may be on its way to us when we look; half a second later it has arrived."""
ANSWER_TIMEOUT_S: Final = 3.0

_NO_ANSWER: Final[tuple[type[BaseException], ...]] = (TopologyError, *UNREACHABLE)
_COLUMNS: Final = tuple(field.name for field in fields(Letter))

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Delivery:
    channel: Channel
    tag: int
    letter: Letter
    is_least: bool = False
    """Whether the letter is stored in part, since the whole could not be."""


class DeadLetterCollector:
    """Stores dead letters and acks them behind the commit; the broker keeps what is not stored."""

    def __init__(self, url: str, *, pool: Pool, fault_points: FaultPoints = NO_FAULTS) -> None:
        self._pool = pool
        self._fault_points = fault_points
        self._own_user = user_of(url)
        self._sql = load_queries("processor.dead_letters")
        self._waiting: deque[_Delivery] = deque()
        self._arrived = asyncio.Event()
        self._channel: Channel | None = None
        self._tag: str | None = None
        self._in_hand = 0
        self._link = BrokerLink(
            url, name="collect-dead-letters", opened=self._consume, lost=self._lost
        )

    @property
    def is_up(self) -> bool:
        """Whether the broker can deliver to us."""
        return self._tag is not None

    async def run(self) -> None:
        """Collect until cancelled; what was not acked by then comes again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run())
            group.create_task(self._watch())
            group.create_task(self._collect())

    async def _collect(self) -> None:
        while True:
            self._arrived.clear()
            if not self._waiting:
                await self._arrived.wait()
                continue
            deliveries = self._take()
            stored = await self._store(deliveries)
            await self._fault_points.reach(FaultPoint.DEAD_LETTERS_STORED)
            for delivery in stored:
                await self._ack(delivery)

    def _take(self) -> list[_Delivery]:
        """Take what the next insert stores: one, and more as long as they are small."""
        taken = [self._waiting.popleft()]
        room = STORED_BYTES_MAX - len(taken[0].letter.body)
        while self._waiting and len(self._waiting[0].letter.body) <= room:
            taken.append(self._waiting.popleft())
            room -= len(taken[-1].letter.body)
        return taken

    async def _store(self, deliveries: Sequence[_Delivery]) -> Sequence[_Delivery]:
        """Return those that are stored: all of them, though one may be stored in part.

        Tries until the database answers, or until the channel is gone and the broker delivers
        them again.
        """
        backoff = Backoff(first_s=0.1, most_s=5.0)
        while self._is_current(deliveries[0]):
            try:
                await self._insert([delivery.letter for delivery in deliveries])
            except Exception as error:  # noqa: BLE001  # classify names the fate of each
                metrics.FAILURES.inc()
                log.warning("dead_letters_not_stored", count=len(deliveries), error=repr(error))
                if classify(error) is Fate.TRANSIENT or deliveries[0].is_least:
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

    async def _insert(self, letters: Sequence[Letter]) -> None:
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

    async def _ack(self, delivery: _Delivery) -> None:
        if not self._is_current(delivery):
            return
        try:
            with loss_as_error():
                await delivery.channel.basic_ack(delivery.tag)
        except UNREACHABLE as error:
            # It comes again, and storing it again changes nothing.
            log.info("dead_letter_ack_failed", error=repr(error))
            return
        if self._is_current(delivery):
            self._in_hand -= 1

    def _is_current(self, delivery: _Delivery) -> bool:
        return delivery.channel is self._channel

    async def _consume(self, channel: Channel) -> None:
        try:
            waiting = await check_queue(channel, DEAD_LETTERS)
        except TopologyError as error:
            log.error("queue_missing", queue=DEAD_LETTERS, detail=str(error))  # noqa: TRY400
            raise ConnectionError(str(error)) from error
        await channel.basic_qos(prefetch_count=IN_HAND_MAX)
        self._channel = channel
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        consuming = await channel.basic_consume(DEAD_LETTERS, self._enqueue)
        self._tag = consuming.consumer_tag
        log.info("consuming", queue=DEAD_LETTERS, waiting=waiting)

    async def _cancelled(self, _: object) -> None:
        """The broker took the consumer away, with the queue or without: begin anew."""
        log.warning("consumer_cancelled", queue=DEAD_LETTERS)
        self._link.cut()

    def _lost(self) -> None:
        """Forget what the lost channel delivered: the broker delivers it again."""
        self._channel = None
        self._tag = None
        self._in_hand = 0
        self._waiting.clear()

    async def _enqueue(self, message: DeliveredMessage) -> None:
        channel = self._channel
        if channel is None or message.channel is not channel:
            return
        self._in_hand += 1
        letter = letter_of(message.body, message.header.properties, own_user=self._own_user)
        self._waiting.append(_Delivery(channel, message.delivery_tag or 0, letter))
        self._arrived.set()

    async def _watch(self) -> None:
        """Rebuild a consumer that the broker has forgotten without saying so."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            try:
                is_forgotten = await self._is_forgotten()
            except _NO_ANSWER as error:
                log.warning("dead_letters_not_watched", error=repr(error))
                continue
            if is_forgotten:
                log.warning("consumer_forgotten", queue=DEAD_LETTERS)
                self._link.cut()

    async def _is_forgotten(self) -> bool:
        """Whether messages wait on the queue while we have none in hand, twice in a row."""
        channel = self._channel
        if channel is None or self._tag is None:
            return False
        if self._tag not in getattr(channel, "consumers", {self._tag}):
            return True
        for _ in range(2):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                with loss_as_error():
                    waiting = await check_queue(channel, DEAD_LETTERS)
            if waiting == 0 or self._in_hand > 0 or channel is not self._channel:
                return False
            await asyncio.sleep(SECOND_LOOK_S)
        return True


def _in_part(delivery: _Delivery, error: Exception) -> _Delivery:
    metrics.IN_PART.inc()
    log.error("dead_letter_stored_in_part", message_id=delivery.letter.message_id)
    return replace(delivery, letter=least_of(delivery.letter, error), is_least=True)
