"""The watchdog of a consumer: the broker and the library may lose one without a word."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from runtime.amqp.connection import UNREACHABLE, Channel, loss_as_error
from runtime.amqp.topology import QueueState, TopologyError, look_at_queue
from runtime.service.periodic import one_of, repeat

WATCH_INTERVAL_S: Final = 5.0
SECOND_LOOK_S: Final = 0.5
"""A message may be on its way to us when we look; half a second later it has arrived."""
ANSWER_TIMEOUT_S: Final = 3.0
SUSPICION_REST_S: Final = 60.0
"""Between two rebuilds on suspicion: a standby of a busy queue is idle, too, and no fault."""

QUIET_MAX_S: Final = 60.0
"""Without a delivery. A queue that is deleted and declared again at once may keep its consumer and
hand it nothing (RabbitMQ 3.10 does), and then no question over AMQP tells it from an idle one."""

_NO_ANSWER: Final[tuple[type[BaseException], ...]] = (TopologyError, *UNREACHABLE)

log = structlog.get_logger()


class Loss(StrEnum):
    """Why a consumer is taken for lost."""

    CANCELLED = "cancelled"
    """The broker told the library that it consumes no more."""
    UNKNOWN_TO_BROKER = "unknown_to_broker"
    """The broker knows of nobody who consumes the queue."""
    FORGOTTEN = "forgotten"
    """Messages wait, none comes to us, and we have none in hand."""
    QUIET = "quiet"
    """Nothing came for so long that we rather ask anew; on an idle queue that costs little."""


@dataclass(frozen=True, slots=True)
class Consuming:
    """A consumer as it sees itself: its channel and tag, and its deliveries so far and in hand."""

    channel: Channel
    tag: str
    arrived: int
    in_hand: int


def judge(
    *, before: Consuming, now: Consuming, seen: QueueState, is_suspicion_due: bool, is_quiet: bool
) -> Loss | None:
    """Return why a consumer is lost, if it is: two looks at it, and one at the queue between.

    `is_quiet`: nothing came for longer than it may.
    """
    if now.channel is not before.channel:
        return None
    if seen.consumers == 0:
        return Loss.UNKNOWN_TO_BROKER
    if now.in_hand > 0 or now.arrived != before.arrived:
        return None
    if seen.waiting > 0 and is_suspicion_due:
        return Loss.FORGOTTEN
    return Loss.QUIET if is_quiet else None


class ConsumerWatchdog:
    """Looks at a consumer every few seconds, and has it built anew when it is lost."""

    def __init__(
        self,
        queue: str,
        *,
        consuming: Callable[[], Consuming | None],
        rebuild: Callable[[Loss], None],
        quiet_max_s: float = QUIET_MAX_S,
    ) -> None:
        """`consuming` tells how the consumer stands, None while it is not meant to consume."""
        self._queue = queue
        self._consuming = consuming
        self._rebuild = rebuild
        self._quiet_max_s = quiet_max_s
        self._suspicion_due_at = 0.0
        self._heard: Consuming | None = None
        self._heard_at = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        await repeat(
            self._watch,
            every_s=WATCH_INTERVAL_S,
            is_at_once=False,
            # A queue that is gone ends the channel, which is built anew without our help.
            is_passing=one_of(*_NO_ANSWER),
            failed=lambda error: log.warning(
                "queue_not_watched", queue=self._queue, error=repr(error)
            ),
        )

    async def _watch(self) -> None:
        loss = await self._look()
        if loss is not None:
            self._rebuild(loss)

    async def _look(self) -> Loss | None:
        """Look twice: what is odd for a moment is no loss."""
        loss = None
        for _ in range(2):
            loss = await self._look_once()
            if loss is None or loss is Loss.CANCELLED:
                return loss
        if loss is Loss.FORGOTTEN:
            self._suspicion_due_at = asyncio.get_running_loop().time() + SUSPICION_REST_S
        return loss

    async def _look_once(self) -> Loss | None:
        before = self._consuming()
        if before is None:
            return None
        if before.tag not in getattr(before.channel, "consumers", {before.tag}):
            return Loss.CANCELLED
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            with loss_as_error():
                seen = await look_at_queue(before.channel, self._queue)
        await asyncio.sleep(SECOND_LOOK_S)
        now = self._consuming()
        if now is None:
            return None
        moment = asyncio.get_running_loop().time()
        if now.in_hand > 0 or now != self._heard:
            self._heard, self._heard_at = now, moment
        return judge(
            before=before,
            now=now,
            seen=seen,
            is_suspicion_due=moment >= self._suspicion_due_at,
            is_quiet=moment - self._heard_at >= self._quiet_max_s,
        )
