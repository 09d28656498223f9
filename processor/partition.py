"""Processing one partition: take a batch, post it, tell of it, ack it; forever, in that order.

The batch behind is read and decided while one is written, and written while that one is told of
and acked.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never
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
from processor.circuit import Circuit
from processor.consumer import Consumer, Delivery
from processor.correspondence import Correspondence, DeadLetter, Reply
from processor.failures import GivenBackError
from processor.perseverance import Failed, PerseveringPoster, Settled
from processor.posting import Item, Loaded, Outcome, Poster
from runtime.backoff import Backoff
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints

BURIALS_MAX: Final = 64
"""Dead letters that wait for their confirm at once: a flood of poison is soon over."""

log = structlog.get_logger()

_Burial = tuple[Delivery, DeadLetter]


@dataclass(frozen=True, slots=True)
class _Posted:
    """A batch that is committed: the deliveries that are no poison, and what became of them."""

    deliveries: list[Delivery]
    settled: list[Settled]


class _Batch:
    """Deliveries that are posted in one commit, what was read of them ahead, and their posting."""

    def __init__(self, deliveries: list[Delivery], poster: Poster) -> None:
        self.deliveries = deliveries
        self.items = [item for delivery in deliveries for item in _items(delivery)]
        self.began_at: float | None = None
        self._poster = poster
        self._loading: asyncio.Task[Loaded] | None = None
        self._posting: asyncio.Task[_Posted] | None = None

    def begin_to_load(self) -> None:
        """Begin to read, unless that is done or under way."""
        if self._loading is None and self.items:
            self._loading = asyncio.create_task(self._poster.load(self.items))
            self._loading.add_done_callback(_retrieve)

    async def loaded(self) -> Loaded | None:
        """Return what was read; None where nothing was, and posting reads for itself."""
        if self._loading is None:
            return None
        try:
            return await self._loading
        except Exception as error:  # noqa: BLE001  # posting tries again, and tells errors apart
            log.info("read_ahead_failed", error=repr(error))
            return None

    def begin_to_post(
        self, post: "Callable[[_Batch], Coroutine[Any, Any, _Posted]]"
    ) -> "asyncio.Task[_Posted]":
        """Begin to post, unless that is done or under way."""
        if self._posting is None:
            self.began_at = time.perf_counter()
            self._posting = asyncio.create_task(post(self))
            self._posting.add_done_callback(_retrieve)
        return self._posting

    async def decide_ahead(self, before: "asyncio.Task[_Posted]") -> None:
        """Decide once it is read, if the batch before is still being written by then."""
        if self._loading is None:
            return
        await asyncio.wait({before, self._loading}, return_when=asyncio.FIRST_COMPLETED)
        loaded = await self.loaded() if self._loading.done() and not before.done() else None
        if loaded is not None:
            self._poster.decide_ahead(loaded)

    def drop(self) -> None:
        """Let go of a batch whose deliveries are the broker's again; a commit goes on."""
        for task in (self._loading, self._posting):
            if task is not None:
                task.cancel()


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at an error that nobody may be waiting for any more."""
    if not task.cancelled():
        task.exception()


class PartitionProcessor:
    """Turns the deliveries of one queue into commits; acks a delivery only behind its commit."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        poster: Poster,
        circuit: Circuit,
        correspondence: Correspondence,
        posted: asyncio.Event,
        batch_size: int,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        """`posted` is set after each commit, for whoever relays the events that it owes."""
        self._consumer = consumer
        self._poster = poster
        self._perseverance = PerseveringPoster(poster, circuit, posted=posted)
        self._circuit = circuit
        self._correspondence = correspondence
        self._batch_size = batch_size
        self._fault_points = fault_points
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Process until stopped; then wait to be cancelled, as loops do."""
        batch = await self._take()
        while batch is not None:
            following: _Batch | None = None
            try:
                following = await self._read_ahead(batch)
                await self._process(batch, following)
            except BaseException as error:
                # Those behind are the broker's again too: they never overtake.
                for dropped in (batch, following):
                    if dropped is not None:
                        dropped.drop()
                following = None
                if not isinstance(error, GivenBackError):
                    raise
                log.warning("deliveries_given_back", count=len(batch.deliveries), reason=str(error))
                await self._rest()
            batch = following or await self._take()
        self._finished.set()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Take nothing more, and return when the batch in hand is committed and acked.

        If the database does not let it be committed, it is given back.
        """
        self._stopping.set()
        self._perseverance.stop()
        await self._consumer.stop()
        await self._finished.wait()

    async def _rest(self) -> None:
        """Consume nothing until the circuit is closed or the process stops."""
        if not self._circuit.is_open:
            return
        self._consumer.pause()
        waits = [
            asyncio.ensure_future(self._circuit.wait_until_closed()),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._consumer.resume()

    async def _take(self) -> "_Batch | None":
        deliveries = await self._consumer.take(self._batch_size)
        return _Batch(deliveries, self._poster) if deliveries else None

    async def _read_ahead(self, batch: "_Batch") -> "_Batch | None":
        """Begin to read the batch behind this one, where a full one waits already.

        Not before this one is recorded: of two messages under one key, the first counts.
        """
        if not self._consumer.has_waiting(self._batch_size):
            return None
        batch.begin_to_load()
        if await batch.loaded() is None or not self._consumer.has_waiting(self._batch_size):
            return None
        following = await self._take()
        if following is not None:
            following.begin_to_load()
        return following

    async def _process(self, batch: "_Batch", following: "_Batch | None") -> None:
        """Post a batch, tell of it, ack it; the one behind it is written meanwhile."""
        posting = batch.begin_to_post(self._post)
        if following is not None:
            await following.decide_ahead(posting)
        posted = await posting
        if not posted.deliveries:
            return
        await self._fault_points.reach(FaultPoint.PROCESSOR_COMMITTED)
        if following is not None:
            following.begin_to_post(self._post)
        await self._answer(posted.deliveries, posted.settled)
        await self._consumer.ack(posted.deliveries)
        metrics.BATCHES.inc()
        metrics.BATCH_TRANSACTIONS.observe(len(batch.items))
        if batch.began_at is not None:
            metrics.BATCH_SECONDS.observe(time.perf_counter() - batch.began_at)

    async def _post(self, batch: "_Batch") -> _Posted:
        """Bury what is poison, and commit the rest."""
        sound = await self._bury_poison(batch.deliveries)
        if not sound:
            return _Posted([], [])

        async def set_aside(failed: Failed) -> None:
            await self._set_aside(sound[0], failed)

        settled = await self._perseverance.post(
            batch.items, set_aside=set_aside, loaded=await batch.loaded()
        )
        return _Posted(sound, settled)

    async def _bury_poison(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return the deliveries that are left.

        Poison is acked by itself: its neighbours may have to wait for the database, and are given
        back at worst, which must not bury it twice.
        """
        sound: list[Delivery] = []
        poison: list[_Burial] = []
        for delivery in deliveries:
            match delivery.content:
                case PoisonMessageError() as error:
                    poison.append((delivery, DeadLetter(error.reason, error.detail)))
                case _:
                    sound.append(delivery)
        await self._bury_all(poison)
        for delivery, _ in poison:
            await self._consumer.ack_one(delivery)
        return sound

    async def _bury_all(self, burials: Sequence[_Burial]) -> None:
        for start in range(0, len(burials), BURIALS_MAX):
            chunk = burials[start : start + BURIALS_MAX]
            outcomes = await asyncio.gather(
                *(self._bury(delivery, letter) for delivery, letter in chunk),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Publish a dead letter until it is confirmed, while the delivery is ours to settle."""
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while self._consumer.is_current(delivery):
            if await self._correspondence.bury(delivery, letter):
                metrics.DEAD_LETTERS.labels(letter.reason).inc()
                log.warning("dead_letter", reason=letter.reason, detail=letter.detail)
                return
            await asyncio.sleep(backoff.next_delay_s())
        raise GivenBackError("the channel that delivered is gone")

    async def _answer(self, deliveries: Sequence[Delivery], settled: Sequence[Settled]) -> None:
        """Send results where they were asked for, and dead letters for what could not be posted."""
        remaining = iter(settled)
        replies: list[Reply] = []
        for delivery in deliveries:
            own = [next(remaining) for _ in _items(delivery)]
            for index, outcome in enumerate(own):
                await self._answer_item(delivery, index, outcome)
            if delivery.properties.reply_to and isinstance(delivery.content, Requested):
                replies.append(Reply(delivery, _own_ids(own)))
        if replies:
            # Read again like a batch: a reply is lost with its queue, never with the database.
            rows = await self._perseverance.insist(lambda: self._correspondence.read(replies))
            await self._correspondence.reply_all(replies, rows)

    async def _answer_item(self, delivery: Delivery, index: int, outcome: Settled) -> None:
        match outcome:
            case Outcome(is_key_reused=False):
                return
            case Outcome(transaction_id):
                is_batch = isinstance(delivery.content, Requested) and delivery.content.is_batch
                place = f"/transactions/{index}: " if is_batch else ""
                detail = f"{place}the key stands for {transaction_id}, with other content"
                letter = DeadLetter(DeadLetterReason.IDEMPOTENCY_KEY_REUSED, detail)
                await self._bury(delivery, letter)
            case Failed():
                await self._set_aside(delivery, outcome)
            case other:
                assert_never(other)

    async def _set_aside(self, delivery: Delivery, failed: Failed) -> None:
        """Quarantine a transaction; a submission that cannot even be recorded has no row."""

        async def bury(transaction_id: UUID | None) -> None:
            await self._bury(delivery, _letter(failed.error, transaction_id))

        try:
            transaction_id = await self._perseverance.insist(
                lambda: self._poster.quarantine(failed.item, bury=bury)
            )
        except GivenBackError:
            raise
        except Exception as problem:  # noqa: BLE001  # it has no row, and a dead letter keeps it
            log.warning("quarantine_failed", error=repr(problem))
            transaction_id = None
            await bury(None)
        metrics.TRANSACTIONS.labels("quarantined").inc()
        log.error(
            "transaction_quarantined",
            transaction_id=str(transaction_id),
            error=repr(failed.error),
        )


def _letter(error: Exception, transaction_id: UUID | None) -> DeadLetter:
    return DeadLetter(
        reason=DeadLetterReason.QUARANTINED,
        detail=f"{type(error).__name__}: {error}",
        transaction_id=transaction_id,
        body=None if transaction_id is None else encode_recorded([transaction_id]),
    )


def _own_ids(settled: Sequence[Settled]) -> list[UUID]:
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
