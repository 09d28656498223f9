"""A batch on its way from the queue to its ack, by named states that it passes in their order."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import structlog

from processor.decoding import Delivery, Poison
from processor.perseverance import Settled
from processor.poster import Item, Loaded, Poster

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
class Posted:
    """A batch that is committed: the deliveries that are no poison, and what became of them."""

    deliveries: list[Delivery]
    settled: list[Settled]


Post = Callable[["Batch"], Coroutine[Any, Any, Posted]]


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
        self._reading: asyncio.Task[Loaded] | None = None
        self._writing: asyncio.Task[Posted] | None = None
        self._answering: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many deliveries it holds."""
        return len(self.poison) + len(self.sound)

    def begin_to_read(self, *, behind: Loaded | None = None) -> None:
        """Begin to read, unless that is done or under way; `behind` a batch that is not written."""
        if self._reading is None and self._writing is None and self.items:
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

    def begin_to_write(self, post: Post) -> "asyncio.Task[Posted]":
        """Begin to post, unless that is done or under way."""
        if self._writing is None:
            self.began_at = time.perf_counter()
            self._writing = _task(self._write(post))
        return self._writing

    def begin_to_answer(self, answer: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Begin to tell what became of it."""
        self._answering = _task(answer)
        return self._answering

    async def decide_ahead(self, before: "asyncio.Task[Posted]") -> None:
        """Decide once it is read, if the batch before is still being written by then."""
        if self._reading is None:
            return
        await asyncio.wait({before, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        loaded = await self.loaded() if self._reading.done() and not before.done() else None
        if loaded is not None:
            self._poster.decide_ahead(loaded)
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

    async def _write(self, post: Post) -> Posted:
        posted = await post(self)
        self.reach(BatchState.WRITTEN)
        return posted


def _task(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    task = asyncio.create_task(work)
    task.add_done_callback(_retrieve)
    return task


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Look at an error that nobody may be waiting for any more."""
    if not task.cancelled():
        task.exception()
