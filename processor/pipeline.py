"""Processing one partition: take a batch, post it, tell of it, ack it; forever, in that order.

A batch goes by named states from the queue to its ack, and each stage of it is one task: reading,
writing, answering. The batch behind is read and decided while one is written, and written while
that one is told of and acked.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

import structlog

from processor import metrics
from processor.intake import Delivery, Item, PartitionConsumer, Poison
from processor.poster import Loaded, Poster
from processor.replies import BatchReplies, Forwarder, Replies
from processor.retry import Circuit, FailedItem, ItemResult, RetryingPoster
from runtime.resilience.error_classification import GivenBackError
from runtime.service.fault_points import FaultPoint, FaultPoints

LOOK_EVERY_S: Final = 5.0
"""While a batch is under way, the database is asked so often whether it is there at all. If it is
not, the batch is given back: a silent server would hold it for a minute."""
HELD_MAX_S: Final = 300.0
"""In hand, whatever it waits for: a lock, or a broker that takes no letters. Then it is given back
and comes again, long before the broker takes it from us (30 minutes by default), and rarely enough
for its thousand deliveries to last for days."""

Result = TypeVar("Result")

log = structlog.get_logger()


class BatchState(StrEnum):
    """How far a batch is."""

    TAKEN = "taken"
    """Its deliveries are in hand."""
    READ = "read"
    """What it rests on was read ahead of its turn."""
    DECIDED = "decided"
    """It was decided ahead of its turn."""
    WRITTEN = "written"
    """It is committed, and its poison is buried."""
    ANSWERED = "answered"
    """Its results and its letters are with the broker: it may be acked."""
    ACKED = "acked"
    """Its acks are sent. An end."""
    GIVEN_BACK = "given_back"
    """Its deliveries are the broker's again, and none of them is acked by us. An end."""


_NEXT: Final[dict[BatchState, frozenset[BatchState]]] = {
    # Only a batch behind another one is read and decided ahead; posting does both otherwise.
    BatchState.TAKEN: frozenset({BatchState.READ, BatchState.WRITTEN, BatchState.GIVEN_BACK}),
    BatchState.READ: frozenset({BatchState.DECIDED, BatchState.WRITTEN, BatchState.GIVEN_BACK}),
    BatchState.DECIDED: frozenset({BatchState.WRITTEN, BatchState.GIVEN_BACK}),
    BatchState.WRITTEN: frozenset({BatchState.ANSWERED, BatchState.GIVEN_BACK}),
    BatchState.ANSWERED: frozenset({BatchState.ACKED, BatchState.GIVEN_BACK}),
    BatchState.ACKED: frozenset(),
    BatchState.GIVEN_BACK: frozenset(),
}


class WrongTurnError(Exception):
    """A batch was to go where it cannot go from where it is."""


class Progress:
    """The state of one batch; it only ever moves as the table above says."""

    def __init__(self) -> None:
        self.state = BatchState.TAKEN

    def reach(self, state: BatchState) -> None:
        """Enter a state; raises WrongTurnError where none leads there."""
        if state not in _NEXT[self.state]:
            raise WrongTurnError(f"a batch that is {self.state} cannot be {state}")
        self.state = state

    @property
    def is_over(self) -> bool:
        """Whether nothing happens to it any more."""
        return not _NEXT[self.state]


@dataclass(frozen=True, slots=True)
class WrittenBatch:
    """A batch that is committed: the deliveries that are no poison, and what became of them."""

    deliveries: list[Delivery]
    settled: list[ItemResult]


Post = Callable[["Batch"], Coroutine[Any, Any, WrittenBatch]]


class Batch(Progress):
    """Deliveries that are posted in one commit, and the work on them that is under way."""

    def __init__(self, deliveries: list[Delivery], poster: Poster) -> None:
        super().__init__()
        self.poison = [one for one in deliveries if isinstance(one.content, Poison)]
        self.sound = [one for one in deliveries if not isinstance(one.content, Poison)]
        self.items: list[Item] = [item for delivery in self.sound for item in delivery.items]
        self.taken_at = time.perf_counter()
        self.began_at = self.taken_at
        self._poster = poster
        self._behind: Loaded | None = None
        self._reading: asyncio.Task[Loaded] | None = None
        self._writing: asyncio.Task[WrittenBatch] | None = None
        self._answering: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many deliveries it holds."""
        return len(self.poison) + len(self.sound)

    def begin_to_read(self, *, behind: Loaded | None = None) -> None:
        """Begin to read, unless that is done or under way; `behind` a batch that is not written.

        What may not be read before that one is written waits for its turn.
        """
        if behind is not None and not self._poster.may_load(self.items, behind=behind):
            return
        if self._reading is None and self._writing is None and self.items:
            self._behind = behind
            self._reading = _task(self._read(behind))

    async def loaded(self) -> Loaded | None:
        """Return what was read; None where nothing was, and posting reads for itself."""
        if self._reading is None:
            return None
        try:
            return await self._reading
        except Exception as error:  # noqa: BLE001  # posting tries again, and tells errors apart
            log.info("read_ahead_failed", error=repr(error))
            return None

    def begin_to_write(self, post: Post) -> "asyncio.Task[WrittenBatch]":
        """Begin to post, unless that is done or under way."""
        if self._writing is None:
            self.began_at = time.perf_counter()
            self._writing = _task(self._write(post))
        return self._writing

    def begin_to_answer(self, answer: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Begin to tell what became of it."""
        self._answering = _task(answer)
        return self._answering

    async def decide_ahead(self, before: "asyncio.Task[WrittenBatch]") -> None:
        """Decide once it is read, if the batch before is still being written by then."""
        if self._reading is None or self._behind is None:
            return
        await asyncio.wait({before, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        loaded = await self.loaded() if self._reading.done() and not before.done() else None
        if loaded is not None:
            self._poster.decide_ahead(loaded, behind=self._behind)
            if loaded.decided is not None:
                self.reach(BatchState.DECIDED)

    def give_back(self) -> None:
        """Let go of a batch whose deliveries are the broker's again; a commit goes on."""
        if self.is_over:
            return
        self.reach(BatchState.GIVEN_BACK)
        for task in (self._reading, self._writing, self._answering):
            if task is not None:
                task.cancel()

    async def _read(self, behind: Loaded | None) -> Loaded:
        loaded = await self._poster.load(self.items, behind=behind)
        self.reach(BatchState.READ)
        return loaded

    async def _write(self, post: Post) -> WrittenBatch:
        posted = await post(self)
        self.reach(BatchState.WRITTEN)
        return posted


class Pipeline:
    """Turns the deliveries of one queue into commits; acks a delivery only behind its commit."""

    def __init__(
        self,
        *,
        consumer: PartitionConsumer,
        poster: Poster,
        circuit: Circuit,
        replies: Replies,
        forwarder: Forwarder,
        posted: asyncio.Event,
        batch_size: int,
        held_max_s: float = HELD_MAX_S,
        fault_points: FaultPoints | None = None,
    ) -> None:
        """`posted` is set after each commit, for whoever relays the events that it owes."""
        self._consumer = consumer
        self._poster = poster
        self._retrying = RetryingPoster(poster, circuit, posted=posted)
        self._circuit = circuit
        self._replies = BatchReplies(
            consumer=consumer,
            poster=poster,
            retrying=self._retrying,
            replies=replies,
            forwarder=forwarder,
        )
        self._batch_size = batch_size
        self._held_max_s = held_max_s
        self._fault_points = fault_points
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Process until stopped; then wait to be cancelled, as loops do."""
        batch = await self._take()
        while batch is not None:
            following: Batch | None = None
            try:
                following = await self._read_ahead(batch)
                await self._process(batch, following)
            except BaseException as error:
                # Those behind are the broker's again too: they never overtake.
                for one in (batch, following):
                    if one is not None:
                        one.give_back()
                following = None
                if not isinstance(error, GivenBackError):
                    raise
                metrics.GIVEN_BACK.inc()
                log.warning("deliveries_given_back", count=len(batch), reason=str(error))
                await self._rest()
            batch = following or await self._take()
        self._finished.set()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Take nothing more, and return when the batch in hand is committed and acked.

        If the database does not let it be committed, it is given back.
        """
        self._stopping.set()
        self._retrying.stop()
        self._consumer.stop()
        await self._finished.wait()

    async def _rest(self) -> None:
        """Give everything back, and consume nothing until the circuit is closed.

        Always on another channel: on this one the next ack could only name what was never posted.
        A process that stops takes nothing more, and its connection ends without an ack.
        """
        if self._stopping.is_set():
            return
        self._consumer.give_back()
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

    async def _take(self) -> Batch | None:
        deliveries = await self._consumer.take(self._batch_size)
        return Batch(deliveries, self._poster) if deliveries else None

    async def _read_ahead(self, batch: Batch) -> Batch | None:
        """Begin to read the batch behind this one, where a full one waits already.

        Not before this one is recorded, or drafted without a key of the next one: of two messages
        under one key, the first counts. This one is written while the next is decoded.
        """
        if not self._consumer.has_waiting(self._batch_size):
            return None
        batch.begin_to_read()
        loaded = await batch.loaded()
        if loaded is None:
            return None
        batch.begin_to_write(self._post)
        await asyncio.sleep(0)
        if not self._consumer.has_waiting(self._batch_size):
            return None
        following = await self._take()
        if following is not None:
            following.begin_to_read(behind=loaded)
        return following

    async def _process(self, batch: Batch, following: Batch | None) -> None:
        """Post a batch, tell of it, ack it; the one behind it is written meanwhile."""
        writing = batch.begin_to_write(self._post)
        if following is not None:
            await following.decide_ahead(writing)
        posted = await self._watched(writing, batch)
        if not posted.deliveries:
            batch.reach(BatchState.ANSWERED)
            batch.reach(BatchState.ACKED)
            return
        if self._fault_points is not None:
            await self._fault_points.reach(FaultPoint.PROCESSOR_COMMITTED)
        if following is not None:
            following.begin_to_write(self._post)
        await self._answer(batch, posted)
        batch.reach(BatchState.ACKED)
        await self._consumer.ack(posted.deliveries)
        metrics.BATCHES.inc()
        metrics.BATCH_TRANSACTIONS.observe(len(batch.items))
        metrics.BATCH_SECONDS.observe(time.perf_counter() - batch.began_at)

    async def _post(self, batch: Batch) -> WrittenBatch:
        """Bury what is poison, and commit the rest."""
        if batch.poison:
            await self._replies.bury_poison(batch.poison)
        if not batch.sound:
            return WrittenBatch([], [])

        async def set_aside(failed: FailedItem) -> None:
            await self._replies.quarantine(batch.sound[0], failed)

        settled = await self._retrying.post(
            batch.items, set_aside=set_aside, loaded=await batch.loaded()
        )
        return WrittenBatch(batch.sound, settled)

    async def _answer(self, batch: Batch, posted: WrittenBatch) -> None:
        if self._replies.is_needed(posted.deliveries, posted.settled):
            answer = self._replies.answer(posted.deliveries, posted.settled)
            await self._watched(batch.begin_to_answer(answer), batch)
        batch.reach(BatchState.ANSWERED)

    async def _watched(self, work: "asyncio.Task[Result]", batch: Batch) -> Result:
        """Return what work on a batch returns; raises GivenBackError where that takes too long.

        Too long is at once where the database does not answer, and `held_max_s` in any case.
        """
        while not (await asyncio.wait({work}, timeout=LOOK_EVERY_S))[0]:
            held_s = time.perf_counter() - batch.taken_at
            if held_s > self._held_max_s:
                raise GivenBackError(f"held for {held_s:.0f} s")
            await self._circuit.examine(TimeoutError(f"no end after {held_s:.0f} s"))
        if work.cancelled():
            # Not by us: a library's own cancellation would end this loop without a word.
            raise GivenBackError("work on it was cancelled from the inside")
        return work.result()


def _task(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    task = asyncio.create_task(work)
    task.add_done_callback(_retrieve)
    return task


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at an error that nobody may be waiting for any more."""
    if not task.cancelled():
        task.exception()
