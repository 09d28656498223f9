"""Telling what became of a batch: dead letters for what could not be posted, results for the rest.

No error of one message's letter or result reaches the others, or ends the loop: that message is
set aside as a dead letter.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, assert_never
from uuid import UUID

import structlog

from contracts.messages import DeadLetterReason, Requested, encode_recorded
from contracts.replies import reply_queue
from processor import metrics
from processor.consumer import Consumer
from processor.correspondence import Correspondence, DeadLetter, Reply, told
from processor.decoding import Delivery, Poison
from processor.forwarding import Forwarder
from processor.perseverance import Failed, PerseveringPoster, Settled
from processor.pipeline import Posted
from processor.poster import ItemOutcome, Poster
from runtime.resilience.error_classification import GivenBackError

BURIALS_MAX: Final = 64
"""Dead letters that wait for their confirm at once: a flood of poison is soon over."""
BURIALS_OCTETS_MAX: Final = 8 * 1024 * 1024
"""Bodies of the dead letters that wait at once: each is in memory twice until it left."""
_IDS_SHOWN_MAX: Final = 3
"""Transactions that a letter about reused keys names; the places name all."""
_PLACES_SHOWN_MAX: Final = 600
"""Characters of the places: what is wrong there stands behind them, in the same header."""

log = structlog.get_logger()


class Answering:
    """The letters and results of one partition's batches."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        poster: Poster,
        perseverance: PerseveringPoster,
        correspondence: Correspondence,
        forwarder: Forwarder,
    ) -> None:
        self._consumer = consumer
        self._poster = poster
        self._perseverance = perseverance
        self._correspondence = correspondence
        self._forwarder = forwarder

    async def bury_poison(self, poison: Sequence[Delivery]) -> None:
        """Bury what can never be processed, and ack each message behind its letter.

        By itself: its neighbours may have to wait for the database, and are given back at worst,
        which must not bury it twice.
        """
        under_way: dict[asyncio.Task[None], int] = {}
        try:
            for delivery in poison:
                octets = len(delivery.body)
                while under_way and not _has_room(under_way, octets):
                    await _first_of(under_way)
                under_way[asyncio.create_task(self._bury_and_ack(delivery))] = octets
            while under_way:
                await _first_of(under_way)
        finally:
            for burial in under_way:
                burial.cancel()

    def is_needed(self, posted: Posted) -> bool:
        """Whether anybody is to be told anything of a batch; nearly always nobody is."""
        return any(one.properties.reply_to_octets for one in posted.deliveries) or any(
            isinstance(one, Failed) or one.is_key_reused or one.partition is not None
            for one in posted.settled
        )

    async def answer(self, deliveries: Sequence[Delivery], settled: Sequence[Settled]) -> None:
        """Send results where they were asked for, and dead letters for what could not be posted.

        First of all, other partitions are told of what they post.
        """
        await self._forwarder.forward(
            settled, is_ours=lambda: self._consumer.is_current(deliveries[0])
        )
        remaining = iter(settled)
        replies: list[Reply] = []
        for delivery in deliveries:
            own = [next(remaining) for _ in delivery.items]
            try:
                await self._answer_one(delivery, own)
                reply = _reply_of(delivery, own)
            except GivenBackError:
                raise
            except Exception as error:  # noqa: BLE001  # set aside, as it is promised above
                await self._set_aside(delivery, "answer", error)
            else:
                if reply is None:
                    continue
                if any(isinstance(one, ItemOutcome) and one.partition is not None for one in own):
                    self._forwarder.reply_later(reply)
                else:
                    replies.append(reply)
        if replies:
            # Read again like a batch: a result is lost with its queue, never with the database.
            rows, failed = await self._perseverance.insist(
                lambda: self._correspondence.read(replies)
            )
            broken = {id(one.reply) for one in failed}
            readable = [one for one in replies if id(one) not in broken]
            failed += await self._correspondence.reply_all(readable, rows)
            for reply, cause in failed:
                await self._set_aside(reply.delivery, "reply", cause)

    async def _answer_one(self, delivery: Delivery, own: Sequence[Settled]) -> None:
        """Bury a message once at the most as it came, however many of its items ask for it."""
        reused: list[tuple[int, UUID]] = []
        unrecorded: list[tuple[int, Exception]] = []
        for index, outcome in enumerate(own):
            match outcome:
                case ItemOutcome(transaction_id, is_key_reused=True):
                    reused.append((index, transaction_id))
                case ItemOutcome():
                    pass
                case Failed():
                    if await self.quarantine(delivery, outcome) is None:
                        unrecorded.append((index, outcome.error))
                case other:
                    assert_never(other)
        if reused:
            await self._bury(delivery, _letter_of_reused_keys(delivery, reused))
        if unrecorded:
            await self._bury(delivery, _letter_of_unrecorded(delivery, unrecorded))

    async def quarantine(self, delivery: Delivery, failed: Failed) -> UUID | None:
        """Quarantine a transaction; None for one that has no row, and so no letter yet."""

        async def bury(transaction_id: UUID | None) -> None:
            if transaction_id is not None:
                await self._bury(delivery, _letter_of_quarantined(failed.error, transaction_id))

        transaction_id: UUID | None = None
        try:
            transaction_id = await self._perseverance.insist(
                lambda: self._poster.quarantine(failed.item, bury=bury)
            )
        except GivenBackError:
            raise
        except Exception as problem:  # noqa: BLE001  # it has no row, and a dead letter keeps it
            log.warning("quarantine_failed", error=repr(problem))
        metrics.TRANSACTIONS.labels("quarantined").inc()
        log.error(
            "transaction_quarantined",
            transaction_id=str(transaction_id),
            error=repr(failed.error),
        )
        return transaction_id

    async def _set_aside(self, delivery: Delivery, kind: str, error: Exception) -> None:
        await self._correspondence.set_aside(
            delivery, kind, error, is_ours=lambda: self._consumer.is_current(delivery)
        )

    async def _bury_and_ack(self, delivery: Delivery) -> None:
        if isinstance(delivery.content, Poison):
            await self._bury(delivery, DeadLetter(*delivery.content))
            await self._consumer.ack([delivery])

    async def _bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        await self._correspondence.bury(
            delivery, letter, is_ours=lambda: self._consumer.is_current(delivery)
        )


def _has_room(under_way: "Mapping[asyncio.Task[None], int]", octets: int) -> bool:
    """Whether one more may be buried at once, by number and by octets."""
    return len(under_way) < BURIALS_MAX and sum(under_way.values()) + octets <= BURIALS_OCTETS_MAX


async def _first_of(under_way: "dict[asyncio.Task[None], int]") -> None:
    """Wait for the first of these burials, and raise what it raised."""
    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    for burial in done:
        del under_way[burial]
    for burial in done:
        burial.result()


def _reply_of(delivery: Delivery, settled: Sequence[Settled]) -> Reply | None:
    """Return the result that is owed for a message, if one is.

    A reused key stands for another request, and what was quarantined has no result yet.
    """
    reply_to = delivery.properties.reply_to_octets
    if not reply_to or not isinstance(delivery.content, Requested):
        return None
    queue = reply_queue(reply_to, submitter=delivery.content.submitter)
    if queue is None:
        metrics.REPLIES_REFUSED.inc()
        log.info(
            "reply_refused",
            submitter=delivery.content.submitter,
            reply_to=delivery.properties.reply_to,
        )
        return None
    ids = [
        one.transaction_id
        for one in settled
        if isinstance(one, ItemOutcome) and not one.is_key_reused
    ]
    return Reply(delivery, queue, ids)


def _letter_of_quarantined(error: Exception, transaction_id: UUID) -> DeadLetter:
    return DeadLetter(
        reason=DeadLetterReason.QUARANTINED,
        detail=told(error),
        transaction_id=transaction_id,
        body=encode_recorded([transaction_id]),
    )


def _letter_of_unrecorded(
    delivery: Delivery, failed: Sequence[tuple[int, Exception]]
) -> DeadLetter:
    place = _place(delivery, [index for index, _ in failed])
    return DeadLetter(DeadLetterReason.QUARANTINED, f"{place}{told(failed[0][1])}")


def _letter_of_reused_keys(delivery: Delivery, reused: Sequence[tuple[int, UUID]]) -> DeadLetter:
    place = _place(delivery, [index for index, _ in reused])
    names = ", ".join(str(one) for _, one in reused[:_IDS_SHOWN_MAX])
    more = f" and {len(reused) - _IDS_SHOWN_MAX} more" if len(reused) > _IDS_SHOWN_MAX else ""
    detail = f"{place}the key was already used with different content, for {names}{more}"
    return DeadLetter(DeadLetterReason.IDEMPOTENCY_KEY_REUSED, detail)


def _place(delivery: Delivery, indexes: Sequence[int]) -> str:
    """Name the transactions of a message that holds many; whole runs of them as 'first-last'."""
    if not isinstance(delivery.content, Requested) or not delivery.content.is_batch:
        return ""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    places = ",".join(parts)
    if len(places) > _PLACES_SHOWN_MAX:
        places = f"{places[:_PLACES_SHOWN_MAX]}…"
    return f"/transactions/{places}: "
