"""What another partition posts of the messages that came in here: announced to it, told of later.

A partition's consumer records an upstream message, and acks it once each transaction of it is
posted here or announced to the partition that posts it. Its result, where one was asked for, is
sent when all of them have ended.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final
from uuid import UUID

import structlog

from contracts.topology import partition_queue
from ledger.words import FINAL_STATUSES
from processor import metrics
from processor.correspondence import Correspondence, Reply, Rows
from processor.perseverance import Settled
from processor.poster import ItemOutcome
from runtime.backoff import Backoff
from runtime.publisher import NotConfirmedError, Publisher
from runtime.republishing import grouped
from runtime.resilience.error_classification import Fate, GivenBackError, classify

CONFIRM_TIMEOUT_S: Final = 5.0
LOOK_INTERVAL_S: Final = 0.1
AWAITED_MAX: Final = 1_000
"""Results that wait for other partitions; more are lost, as a reply is whose queue is gone."""
LOOKED_AT_MAX: Final = 100
"""Results of one look: each may tell of a thousand transactions."""
PATIENCE_S: Final = 30.0
"""After it a result tells of what is PENDING, as it is: its sender reads on over HTTP."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Awaited:
    reply: Reply
    until: float


class Forwarder:
    """Announces transactions to the other partitions that post them, and tells of their end."""

    def __init__(self, *, publisher: Publisher, correspondence: Correspondence) -> None:
        self._publisher = publisher
        self._correspondence = correspondence
        self._awaited: deque[_Awaited] = deque()
        self._arrived = asyncio.Event()

    async def forward(self, settled: Sequence[Settled], *, is_ours: Callable[[], bool]) -> None:
        """Return when each partition's queue has what it is to post, in the order of `settled`.

        Raises GivenBackError when their messages are not `is_ours` any more.
        """
        queues: dict[str, list[UUID]] = defaultdict(list)
        for one in settled:
            if isinstance(one, ItemOutcome) and one.partition is not None:
                queues[partition_queue(one.partition)].append(one.transaction_id)
        messages = [group.outgoing for group in grouped(queues)]
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while messages:
            try:
                await self._publisher.publish_all(messages, timeout_s=CONFIRM_TIMEOUT_S)
            except NotConfirmedError as error:
                log.warning("forwarding_not_confirmed", messages=len(messages), error=str(error))
            else:
                metrics.FORWARDED.inc(sum(map(len, queues.values())))
                return
            if not is_ours():
                raise GivenBackError("the channel that delivered is gone")
            await asyncio.sleep(backoff.next_delay_s())

    def reply_later(self, reply: Reply) -> None:
        """Send a result when all that it tells of has ended, after PATIENCE_S at the latest."""
        if len(self._awaited) >= AWAITED_MAX:
            metrics.REPLIES_LOST.inc()
            log.warning("reply_lost", reply_to=reply.queue, error="too many wait")
            return
        until = asyncio.get_running_loop().time() + PATIENCE_S
        self._awaited.append(_Awaited(reply, until))
        self._arrived.set()

    async def run(self) -> None:
        """Send results until cancelled."""
        while True:
            if not self._awaited:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await self._look()
            except Exception as error:
                if classify(error) is not Fate.TRANSIENT:
                    raise
                log.info("late_replies_not_read", error=repr(error))

    async def _look(self) -> None:
        """Look at the oldest ones, and at the next ones the next time."""
        looked_at = list(islice(self._awaited, LOOKED_AT_MAX))
        rows, failed = await self._correspondence.read([one.reply for one in looked_at])
        broken = {id(one.reply) for one in failed}
        readable = [one for one in looked_at if id(one.reply) not in broken]
        now = asyncio.get_running_loop().time()
        due = [one for one in readable if now >= one.until or _has_ended(one.reply, rows)]
        for _ in looked_at:
            self._awaited.popleft()
        self._awaited.extend(one for one in readable if one not in due)
        failed += await self._correspondence.reply_all([one.reply for one in due], rows)
        for reply, error in failed:
            # Its message was acked long ago: only the letter keeps what its sender is owed.
            await self._correspondence.set_aside(
                reply.delivery, "reply", error, is_ours=lambda: True
            )


def _has_ended(reply: Reply, rows: Rows) -> bool:
    return all(
        one in rows and rows[one]["status"] in FINAL_STATUSES for one in reply.transaction_ids
    )
