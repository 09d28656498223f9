"""Processing one partition: take a batch, post it, tell of it, ack it; forever, in that order."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

import structlog

from contracts.messages import (
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    DeadLetterReason,
    PoisonMessageError,
    Recorded,
    Requested,
    encode_recorded,
)
from contracts.recording import Submission
from contracts.tracing import valid_request_id, valid_traceparent
from processor import metrics
from processor.consumer import Consumer, Delivery
from processor.correspondence import Correspondence, DeadLetter
from processor.failures import Fate, classify
from processor.posting import BatchResult, Item, Outcome, Poster
from runtime.backoff import Backoff
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Quarantined:
    """An item that failed alone; its error goes with the dead letter."""

    item: Item
    error: Exception


_Settled = Outcome | _Quarantined


class PartitionProcessor:
    """Turns the deliveries of one queue into commits; acks a delivery only behind its commit."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        poster: Poster,
        correspondence: Correspondence,
        posted: asyncio.Event,
        batch_size: int,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        """`posted` is set after each commit, for whoever relays the events that it owes."""
        self._consumer = consumer
        self._poster = poster
        self._correspondence = correspondence
        self._posted = posted
        self._batch_size = batch_size
        self._fault_points = fault_points
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Process until stopped; then wait to be cancelled, as loops do."""
        while deliveries := await self._consumer.take(self._batch_size):
            await self._process(deliveries)
        self._finished.set()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Take nothing more, and return when the batch in hand is committed and acked."""
        await self._consumer.stop()
        await self._finished.wait()

    async def _process(self, deliveries: list[Delivery]) -> None:
        started = time.perf_counter()
        await self._bury_poison(deliveries)
        items = [item for delivery in deliveries for item in _items(delivery)]
        settled = await self._post_all(items) if items else []
        await self._fault_points.reach(FaultPoint.PROCESSOR_COMMITTED)
        await self._answer(deliveries, settled)
        await self._consumer.ack(deliveries)
        if items:
            metrics.BATCHES.inc()
            metrics.BATCH_TRANSACTIONS.observe(len(items))
            metrics.BATCH_SECONDS.observe(time.perf_counter() - started)

    async def _bury_poison(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if isinstance(delivery.content, PoisonMessageError):
                error = delivery.content
                await self._bury(delivery, DeadLetter(error.reason, error.detail))

    async def _bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Publish a dead letter until it is confirmed, while the delivery is ours to settle."""
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while self._consumer.is_current(delivery):
            if await self._correspondence.bury(delivery, letter):
                metrics.DEAD_LETTERS.labels(letter.reason).inc()
                log.warning("dead_letter", reason=letter.reason, detail=letter.detail)
                return
            await asyncio.sleep(backoff.next_delay_s())

    async def _post_all(self, items: list[Item]) -> list[_Settled]:
        """Post items whatever it takes: again after a passing error, in halves after another."""
        backoff = Backoff(first_s=0.05, most_s=5.0)
        while True:
            try:
                result = await self._poster.post(items)
            except Exception as error:  # noqa: BLE001  # classify names the fate of each
                match classify(error):
                    case Fate.TRANSIENT:
                        metrics.RETRIES.inc()
                        log.warning("batch_retried", transactions=len(items), error=repr(error))
                        await asyncio.sleep(backoff.next_delay_s())
                    case Fate.UNKNOWN | Fate.POISON:
                        return await self._bisect(items, error)
                    case other:
                        assert_never(other)
            else:
                self._tell(result)
                return list(result.outcomes)

    async def _bisect(self, items: list[Item], error: Exception) -> list[_Settled]:
        """Post both halves in their order; what fails alone is quarantined."""
        if len(items) == 1:
            return [_Quarantined(items[0], error)]
        metrics.BISECTIONS.inc()
        log.warning("batch_bisected", transactions=len(items), error=repr(error))
        middle = len(items) // 2
        first = await self._post_all(items[:middle])
        return first + await self._post_all(items[middle:])

    def _tell(self, result: BatchResult) -> None:
        posting = result.posting
        self._posted.set()
        metrics.TRANSACTIONS.labels("completed").inc(len(posting.posted))
        metrics.TRANSACTIONS.labels("failed").inc(len(posting.refused))
        log.info("batch_posted", transactions=len(posting.posted), refused=len(posting.refused))

    async def _answer(self, deliveries: Sequence[Delivery], settled: Sequence[_Settled]) -> None:
        """Send results where they were asked for, and dead letters for what could not be posted."""
        remaining = iter(settled)
        for delivery in deliveries:
            own = [next(remaining) for _ in _items(delivery)]
            for index, outcome in enumerate(own):
                await self._answer_item(delivery, index, outcome)
            if delivery.properties.reply_to and isinstance(delivery.content, Requested):
                await self._correspondence.reply(delivery, _own_ids(own))

    async def _answer_item(self, delivery: Delivery, index: int, outcome: _Settled) -> None:
        match outcome:
            case Outcome(is_key_reused=False):
                return
            case Outcome(transaction_id):
                is_batch = isinstance(delivery.content, Requested) and delivery.content.is_batch
                place = f"/transactions/{index}: " if is_batch else ""
                detail = f"{place}the key stands for {transaction_id}, with other content"
                letter = DeadLetter(DeadLetterReason.IDEMPOTENCY_KEY_REUSED, detail)
            case _Quarantined(item, error):
                letter = await self._quarantine(item, error)
            case other:
                assert_never(other)
        await self._bury(delivery, letter)

    async def _quarantine(self, item: Item, error: Exception) -> DeadLetter:
        """Set the transaction aside; a submission that cannot even be recorded has no row."""
        transaction_id = None
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while True:
            try:
                transaction_id = await self._poster.quarantine(item)
            except Exception as problem:  # noqa: BLE001  # the fate of each is named
                if classify(problem) is Fate.TRANSIENT:
                    await asyncio.sleep(backoff.next_delay_s())
                    continue
            break
        metrics.TRANSACTIONS.labels("quarantined").inc()
        log.error("transaction_quarantined", transaction_id=str(transaction_id), error=repr(error))
        return DeadLetter(
            reason=DeadLetterReason.QUARANTINED,
            detail=f"{type(error).__name__}: {error}",
            transaction_id=transaction_id,
            body=None if transaction_id is None else encode_recorded([transaction_id]),
        )


def _own_ids(settled: Sequence[_Settled]) -> list[UUID]:
    """The transactions that a message's results tell of.

    A reused key stands for another request, and what was quarantined has no result yet.
    """
    return [
        one.transaction_id for one in settled if isinstance(one, Outcome) and not one.is_key_reused
    ]


def _items(delivery: Delivery) -> list[Item]:
    match delivery.content:
        case Recorded(transaction_ids):
            return list(transaction_ids)
        case Requested(submitter=submitter, commands=commands):
            headers = delivery.properties.headers or {}
            traceparent = valid_traceparent(headers.get(TRACEPARENT_HEADER))
            request_id = valid_request_id(headers.get(REQUEST_ID_HEADER))
            return [Submission(submitter, command, request_id, traceparent) for command in commands]
        case PoisonMessageError():
            return []
