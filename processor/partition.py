"""Processing one partition: take a batch, post it, tell of it, ack it; forever, in that order.

The batch behind is read and decided while one is written, and written while that one is told of
and acked.
"""

import asyncio
import time
from typing import Final, TypeVar

import structlog

from processor import metrics
from processor.answering import Answering
from processor.circuit import Circuit
from processor.consumer import Consumer
from processor.correspondence import Correspondence
from processor.forwarding import Forwarder
from processor.perseverance import Failed, PerseveringPoster
from processor.pipeline import Batch, BatchState, Posted
from processor.poster import Poster
from runtime.fault_points import NO_FAULTS, FaultPoint, FaultPoints
from runtime.resilience.error_classification import GivenBackError

LOOK_EVERY_S: Final = 5.0
"""While a batch is under way, the database is asked so often whether it is there at all. If it is
not, the batch is given back: a silent server would hold it for a minute."""
HELD_MAX_S: Final = 300.0
"""In hand, whatever it waits for: a lock, or a broker that takes no letters. Then it is given back
and comes again, long before the broker takes it from us (30 minutes by default), and rarely enough
for its thousand deliveries to last for days."""

Result = TypeVar("Result")

log = structlog.get_logger()


class PartitionProcessor:
    """Turns the deliveries of one queue into commits; acks a delivery only behind its commit."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        poster: Poster,
        circuit: Circuit,
        correspondence: Correspondence,
        forwarder: Forwarder,
        posted: asyncio.Event,
        batch_size: int,
        held_max_s: float = HELD_MAX_S,
        fault_points: FaultPoints = NO_FAULTS,
    ) -> None:
        """`posted` is set after each commit, for whoever relays the events that it owes."""
        self._consumer = consumer
        self._poster = poster
        self._perseverance = PerseveringPoster(poster, circuit, posted=posted)
        self._circuit = circuit
        self._answering = Answering(
            consumer=consumer,
            poster=poster,
            perseverance=self._perseverance,
            correspondence=correspondence,
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
        self._perseverance.stop()
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

        Not before this one is recorded: of two messages under one key, the first counts. This one
        is written while the next is decoded.
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
        await self._fault_points.reach(FaultPoint.PROCESSOR_COMMITTED)
        if following is not None:
            following.begin_to_write(self._post)
        await self._answer(batch, posted)
        batch.reach(BatchState.ACKED)
        await self._consumer.ack(posted.deliveries)
        metrics.BATCHES.inc()
        metrics.BATCH_TRANSACTIONS.observe(len(batch.items))
        metrics.BATCH_SECONDS.observe(time.perf_counter() - batch.began_at)

    async def _post(self, batch: Batch) -> Posted:
        """Bury what is poison, and commit the rest."""
        await self._answering.bury_poison(batch.poison)
        if not batch.sound:
            return Posted([], [])

        async def set_aside(failed: Failed) -> None:
            await self._answering.quarantine(batch.sound[0], failed)

        settled = await self._perseverance.post(
            batch.items, set_aside=set_aside, loaded=await batch.loaded()
        )
        return Posted(batch.sound, settled)

    async def _answer(self, batch: Batch, posted: Posted) -> None:
        if self._answering.is_needed(posted):
            answer = self._answering.answer(posted.deliveries, posted.settled)
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
