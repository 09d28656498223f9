"""Posting whatever it takes: again after a passing error, in parts after another one.

While the database cannot be reached from here the circuit is open, and no messages are held.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from typing import Final, TypeAlias, TypeVar, assert_never
from uuid import UUID

import structlog

from processor import metrics
from processor.intake import InvalidItem, Item, ItemRecord, batch_id_of
from processor.poster import BatchResult, Loaded, Poster
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import ErrorClass, GivenBackError, classify
from runtime.service.periodic import Backoff

PROBE_TIMEOUT_S: Final = 2.0
PROBE_FIRST_S: Final = 0.1
PROBE_MOST_S: Final = 1.0
"""Between two probes. Work goes on this much after the database is back, and a little more."""
TRIES_MAX: Final = 3
"""Failures in a row after which the database is asked whether it is there at all."""
RETRY_FIRST_S: Final = 0.05
RETRY_MOST_S: Final = 2.0
"""Between two tries: how long a lock may be free, or a disk have room, before we look again."""
Result = TypeVar("Result")

log = structlog.get_logger()


class Circuit:
    """One for a process. Closed: batches are posted. Open: nothing is consumed until a probe tells.

    It opens for a database that does not answer or takes no writes, not for one that answers and
    fails a batch: then every other processor would fail it, too, and giving deliveries back would
    only spend them. An outage costs a message one delivery per processor, however long it lasts,
    so the broker's limit of deliveries is not in sight.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("processor")
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._closed.set()
        metrics.CIRCUIT_OPEN.set(0)

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be consumed."""
        return self._opened.is_set()

    async def run(self) -> None:
        """Probe whenever the circuit is open, until cancelled."""
        while True:
            await self._opened.wait()
            backoff = Backoff(first_s=PROBE_FIRST_S, most_s=PROBE_MOST_S)
            while True:
                await asyncio.sleep(backoff.next_delay_s())
                if await self._ask() is None:
                    break
            self._close()

    async def wait_until_closed(self) -> None:
        """Return as soon as the database can be worked with."""
        await self._closed.wait()

    async def examine(self, error: Exception) -> None:
        """Ask the database after an error that came again and again.

        Returns if it answers; raises GivenBackError, the circuit being open, if it does not.
        """
        if not self.is_open:
            trouble = await self._ask()
            if trouble is None:
                return
            self._open(trouble)
        raise GivenBackError("the circuit is open") from error

    def _open(self, trouble: Exception) -> None:
        if self.is_open:
            return
        self._opened.set()
        self._closed.clear()
        metrics.CIRCUIT_OPEN.set(1)
        metrics.CIRCUIT_OPENINGS.inc()
        log.error("circuit_opened", error=repr(trouble))

    def _close(self) -> None:
        self._opened.clear()
        self._closed.set()
        metrics.CIRCUIT_OPEN.set(0)
        log.info("circuit_closed")

    async def _ask(self) -> Exception | None:
        """Return None if the database can be worked with, or what stands against it."""
        try:
            # The library's own bounds, one for each step, add up to more.
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._probe()
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is 'no'
            # A failover leaves connections to the old server behind: the next probe, and all work
            # after it, gets new ones.
            await self._pool.expire_connections()
            return error
        return None

    async def _probe(self) -> None:
        async with self._pool.acquire(timeout=PROBE_TIMEOUT_S) as connection:
            is_usable = await connection.fetchval(self._sql["probe"], timeout=PROBE_TIMEOUT_S)
        if not is_usable:
            raise ConnectionError("the database takes no writes, or is not migrated")


class _StuckError(Exception):
    """The database answers, and still the call failed TRIES_MAX times; its cause tells why."""


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that failed alone, for an unknown reason: it is to be set aside."""

    item: Item
    error: Exception


ItemResult: TypeAlias = ItemRecord | FailedItem
SetAside: TypeAlias = Callable[[FailedItem], Awaitable[None]]


class _Delays:
    """The delays of one call, which most never need."""

    def __init__(self) -> None:
        self._backoff: Backoff | None = None

    def next_s(self) -> float:
        """Return the next one in seconds."""
        if self._backoff is None:
            self._backoff = Backoff(first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)
        return self._backoff.next_delay_s()


class RetryingPoster:
    """Posts a partition's batches; only what fails alone, for an unknown reason, is given up.

    What passes (a lock, a full disk, a statement that takes too long) is waited for without an
    end, since nothing is lost by waiting; a metric and a log event at each try tell of it. A batch
    that keeps failing is halved, so that what stands before the trouble is posted; what stands
    behind it waits, since transactions post in their order.
    """

    def __init__(self, poster: Poster, circuit: Circuit, *, posted: asyncio.Event) -> None:
        """`posted` is set after each commit, for whoever relays the events that it owes."""
        self._poster = poster
        self._circuit = circuit
        self._posted = posted
        self._is_stopping = False
        self._is_stuck = False

    def stop(self) -> None:
        """Persevere no more: a try that fails from now on is the last one."""
        self._is_stopping = True

    async def post(
        self, items: Sequence[Item], *, set_aside: SetAside, loaded: Loaded | None = None
    ) -> list[ItemResult]:
        """Return what became of each item, in their order; `loaded` is what was read of them.

        `set_aside` takes what is no item and failed alone: it was accepted earlier (unannounced),
        and what comes after it must not wait for ever.

        Raises GivenBackError when the database cannot be reached. Some of the items may be posted
        by then; that shows when they come again.
        """
        try:
            return await self._post(items, set_aside, loaded)
        finally:
            self._tell_stuck(is_stuck=False)

    async def insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what a call to the database returns, after as many tries as that takes.

        Raises what is not transient, and GivenBackError as `post` does.
        """
        delays = _Delays()
        try:
            while True:
                try:
                    return await self._try(call, delays)
                except _StuckError:
                    self._tell_stuck(is_stuck=True)
        finally:
            self._tell_stuck(is_stuck=False)

    async def _post(
        self, items: Sequence[Item], set_aside: SetAside, loaded: Loaded | None = None
    ) -> list[ItemResult]:
        delays = _Delays()
        is_first = True
        while True:
            try:
                post = partial(self._poster.post, items, loaded=loaded)
                result = await self._try(post, delays)
            except GivenBackError:
                raise
            except _StuckError as error:
                self._tell_stuck(is_stuck=True)
                if _cut_of(items):
                    return await self._post_halves(items, set_aside, error.__cause__)
            except Exception as error:  # noqa: BLE001  # of unknown cause: look where it sits
                if len(items) > 1:
                    return await self._post_parts(items, set_aside, error)
                if not is_first or not await self._post_earlier(items[0], set_aside):
                    return [FailedItem(items[0], error)]
                is_first = False
            else:
                self._tell(result)
                if not result.is_partial:
                    return list(result.outcomes)
            loaded = None

    async def _post_earlier(self, item: Item, set_aside: SetAside) -> bool:
        """Post what goes before an item, each alone; return whether there was any."""
        try:
            earlier = await self.insist(lambda: self._poster.earlier_than(item))
        except GivenBackError:
            raise
        except Exception as error:  # noqa: BLE001  # then it is the item's own trouble
            log.info("earlier_not_read", error=repr(error))
            return False
        for one in earlier:
            for settled in await self._post([one], set_aside):
                if isinstance(settled, FailedItem):
                    await set_aside(settled)
        return bool(earlier)

    async def _post_parts(
        self, items: Sequence[Item], set_aside: SetAside, error: Exception
    ) -> list[ItemResult]:
        if _cut_of(items):
            return await self._post_halves(items, set_aside, error)
        return await self._failed_batch(items, error)

    async def _post_halves(
        self, items: Sequence[Item], set_aside: SetAside, cause: BaseException | None
    ) -> list[ItemResult]:
        metrics.BISECTIONS.inc()
        log.warning("batch_bisected", transactions=len(items), error=repr(cause))
        middle = _cut_of(items)
        first = await self._post(items[:middle], set_aside)
        return first + await self._post(items[middle:], set_aside)

    async def _failed_batch(self, items: Sequence[Item], error: Exception) -> list[ItemResult]:
        """Return what becomes of an atomic batch that failed alone: one letter for all of it.

        It is recorded whole first, so that the whole is set aside with its first member. Where even
        that fails there is not one row of it, and its message is a dead letter.
        """
        try:
            recorded = await self.insist(lambda: self._poster.load(items))
        except GivenBackError:
            raise
        except Exception as problem:  # noqa: BLE001  # of unknown cause, like the first one
            return [InvalidItem(f"its atomic batch cannot be recorded: {problem!r}")] * len(items)
        return [FailedItem(items[0], error), *recorded.batch.outcomes[1:]]

    async def _try(self, call: Callable[[], Awaitable[Result]], delays: _Delays) -> Result:
        """Return what a call returns within TRIES_MAX tries; raises _StuckError after them."""
        for tries in count(1):
            try:
                return await call()
            except GivenBackError:
                raise
            except Exception as error:  # noqa: BLE001  # classify names the fate of each
                await self._bear(error, tries=tries, delays=delays)
        raise AssertionError("count() has no end")

    async def _bear(self, error: Exception, *, tries: int, delays: _Delays) -> None:
        """Return, after a pause, if the same call may be made again; raises otherwise."""
        match classify(error):
            case ErrorClass.UNKNOWN | ErrorClass.POISON:
                raise error
            case ErrorClass.TRANSIENT:
                metrics.RETRIES.inc()
                log.warning("batch_retried", tries=tries, error=repr(error))
            case other:
                assert_never(other)
        if self._is_stopping:
            raise GivenBackError("the process stops while the database fails it") from error
        if self._circuit.is_open or tries >= TRIES_MAX:
            await self._circuit.examine(error)
        await asyncio.sleep(delays.next_s())
        if tries >= TRIES_MAX:
            raise _StuckError from error

    def _tell(self, result: BatchResult) -> None:
        posting = result.posting
        self._posted.set()
        self._tell_stuck(is_stuck=False)
        metrics.TRANSACTIONS.labels("completed").inc(len(posting.posted))
        metrics.TRANSACTIONS.labels("failed").inc(len(posting.refused))
        metrics.HELD_BACK.inc(len(posting.held))
        log.debug("batch_posted", transactions=len(posting.posted), refused=len(posting.refused))

    def _tell_stuck(self, *, is_stuck: bool) -> None:
        if is_stuck is not self._is_stuck:
            self._is_stuck = is_stuck
            metrics.STUCK.inc(1 if is_stuck else -1)


def _cut_of(items: Sequence[Item]) -> int:
    """Return where to halve items, which is 0 where they are one: an item, or one atomic batch.

    A half of an atomic batch would be recorded and posted without the other. Those that are
    recorded, which ids stand for, are posted whole whichever member is asked for.
    """
    batch_ids = [None if isinstance(one, UUID) else batch_id_of(one) for one in items]
    middle = len(items) // 2
    cuts = [
        place
        for place, (before, after) in enumerate(pairwise(batch_ids), start=1)
        if before is None or before != after
    ]
    return min(cuts, key=lambda place: abs(place - middle), default=0)
