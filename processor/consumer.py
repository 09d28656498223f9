"""Consuming one partition: deliveries in their order, decoded, and batches of what waits."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import structlog
from pamqp.commands import Basic

from contracts.messages import (
    DeadLetterReason,
    PoisonMessageError,
    Recorded,
    Requested,
    decode_message,
)
from processor.metrics import CONSUMERS_REBUILT, WAITING_DELIVERIES
from processor.watchdog import QUIET_MAX_S, ConsumerWatchdog, Consuming, Loss
from runtime.broker import (
    CONNECT_TIMEOUT_S,
    UNREACHABLE,
    BrokerLink,
    Channel,
    loss_as_error,
    user_of,
)
from runtime.delivering import Arrival, open_delivering_channel
from runtime.properties import Properties
from runtime.sifting import SiftedConnection
from runtime.topology import TopologyError, check_queue

CANCEL_TIMEOUT_S: Final = 2.0
"""To tell the broker that we stop; without its answer the connection ends all the same."""

log = structlog.get_logger()

Content: TypeAlias = Recorded | Requested | PoisonMessageError


class Delivery(NamedTuple):
    """A message in hand: what it asks for, and the channel that wants its ack."""

    channel: Channel
    tag: int
    body: bytes
    properties: Properties
    content: Content
    transactions: int
    """How many it stands for; a dead letter counts as one piece of work."""


class Consumer:
    """The deliveries of one queue. Its callback only enqueues; whoever takes them settles them."""

    def __init__(
        self, url: str, queue: str, *, prefetch: int, quiet_max_s: float = QUIET_MAX_S
    ) -> None:
        """`prefetch` bounds the deliveries in hand, unsettled ones included.

        After `quiet_max_s` without a delivery it begins anew.
        """
        self._queue = queue
        self._own_user = user_of(url)
        self._prefetch = prefetch
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._channel: Channel | None = None
        self._tag: str | None = None
        self._arrivals = 0
        self._in_hand = 0
        self._is_paused = False
        self._is_stopping = False
        self._link = BrokerLink(
            url,
            name=f"consume-{queue}",
            opened=self._consume,
            lost=self._lost,
            opening=self._open,
        )
        self._watchdog = ConsumerWatchdog(
            queue, consuming=self._consuming, rebuild=self._rebuild, quiet_max_s=quiet_max_s
        )

    @property
    def is_up(self) -> bool:
        """Whether the broker can deliver to us (a standby is up, too)."""
        return self._channel is not None

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the channel that delivered it still lives: acks of any other are dropped."""
        return delivery.channel is self._channel

    async def run(self) -> None:
        """Keep consuming until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run())
            group.create_task(self._watchdog.run())

    async def take(self, transactions_max: int) -> list[Delivery]:
        """Return all that waits, up to a bound of transactions; at least one delivery.

        Returns an empty list once stopped and empty-handed.
        """
        while not self._waiting:
            if self._is_stopping:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        taken = [self._waiting.popleft()]
        count = taken[0].transactions
        while self._waiting and count + self._waiting[0].transactions <= transactions_max:
            taken.append(self._waiting.popleft())
            count += taken[-1].transactions
        WAITING_DELIVERIES.set(len(self._waiting))
        return taken

    def has_waiting(self, transactions: int) -> bool:
        """Whether at least so many transactions wait: a batch behind the one that was taken."""
        count = 0
        for delivery in self._waiting:
            count += delivery.transactions
            if count >= transactions:
                return True
        return False

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settle these deliveries, which are all up to the last of them; lost acks come again."""
        await self._ack(deliveries[-1], settled=len(deliveries), is_multiple=True)

    async def ack_one(self, delivery: Delivery) -> None:
        """Settle one delivery before its neighbours are settled."""
        await self._ack(delivery, settled=1, is_multiple=False)

    async def _ack(self, last: Delivery, *, settled: int, is_multiple: bool) -> None:
        if not self.is_current(last):
            log.info("stale_ack_dropped", queue=self._queue, deliveries=settled)
            return
        try:
            with loss_as_error():
                await last.channel.basic_ack(last.tag, multiple=is_multiple)
        except UNREACHABLE as error:
            log.warning("ack_failed", queue=self._queue, error=repr(error))
            return
        if self.is_current(last):
            self._in_hand -= settled

    def pause(self) -> None:
        """Give back all deliveries, those that were taken too, and consume nothing.

        The queue's next consumer, if there is one, gets them now. For each message it costs one of
        the deliveries that the broker allows.
        """
        self._is_paused = True
        self._waiting.clear()
        self._link.cut()

    def resume(self) -> None:
        """Consume again after a pause."""
        if self._is_paused:
            self._is_paused = False
            self._link.cut()

    async def stop(self) -> None:
        """Ask for no more; what waits goes back to the broker when the connection closes."""
        self._is_stopping = True
        self._waiting.clear()
        self._arrived.set()
        if self._channel is not None and self._tag is not None:
            try:
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    with loss_as_error():
                        await self._channel.basic_cancel(self._tag)
            except UNREACHABLE as error:
                log.info("cancel_failed", queue=self._queue, error=repr(error))

    async def _open(self, connection: SiftedConnection) -> Channel:
        return await open_delivering_channel(
            connection, arrived=self._enqueue, timeout_s=CONNECT_TIMEOUT_S
        )

    async def _consume(self, channel: Channel) -> None:
        """Begin on a new channel; while paused, only hold the connection ready."""
        if self._is_paused:
            self._channel = channel
            return
        try:
            waiting = await check_queue(channel, self._queue)
        except TopologyError as error:
            log.error("queue_missing", queue=self._queue, detail=str(error))  # noqa: TRY400
            raise ConnectionError(str(error)) from error
        await channel.basic_qos(prefetch_count=self._prefetch)
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._channel = channel
        consuming = await channel.basic_consume(self._queue, _never_called)
        self._tag = consuming.consumer_tag
        log.info("consuming", queue=self._queue, waiting=waiting)

    def _lost(self) -> None:
        """Forget what the lost channel delivered: the broker delivers it again."""
        self._channel = None
        self._tag = None
        self._in_hand = 0
        self._waiting.clear()
        WAITING_DELIVERIES.set(0)

    def _enqueue(self, message: Arrival) -> None:
        if message.channel is not self._channel or self._is_stopping or self._is_paused:
            return
        self._arrivals += 1
        self._in_hand += 1
        self._waiting.append(_delivery(message, own_user=self._own_user))
        self._arrived.set()

    def _cancelled(self, _: Basic.Cancel) -> None:
        """Begin anew: the broker ended our consumer, above all since the queue is gone."""
        self._rebuild(Loss.CANCELLED)

    def _rebuild(self, loss: Loss) -> None:
        log.warning("consumer_lost", queue=self._queue, reason=loss.value)
        CONSUMERS_REBUILT.labels(loss.value).inc()
        self._link.cut()

    def _consuming(self) -> Consuming | None:
        if self._channel is None or self._tag is None or self._is_stopping or self._is_paused:
            return None
        return Consuming(self._channel, self._tag, arrived=self._arrivals, in_hand=self._in_hand)


async def _never_called(_: object) -> None:
    """Stand for a consumer's callback in aiormq's table: deliveries take a shorter way."""


def _delivery(message: Arrival, *, own_user: str) -> Delivery:
    """Decode at once: pure work, done while the database is waited for.

    Nothing that a message holds may raise out of here: a delivery that is not settled by itself
    would be acked with its neighbours, and lost.
    """
    channel, tag, properties, body = message
    try:
        content: Content = decode_message(
            body,
            message_type=properties.message_type,
            content_type=properties.content_type,
            user_id=properties.user_id,
        )
        if isinstance(content, Recorded) and properties.user_id != own_user:
            content = PoisonMessageError(
                DeadLetterReason.NOT_PERMITTED,
                "only Ackledger's own processes publish recorded ids",
            )
    except PoisonMessageError as error:
        content = error
    except Exception as error:  # noqa: BLE001  # a fault of ours, told by the dead letter
        content = PoisonMessageError(DeadLetterReason.UNKNOWN, repr(error))
    return Delivery(channel, tag, body, properties, content, _transactions(content))


def _transactions(content: Content) -> int:
    match content:
        case Recorded(transaction_ids):
            return len(transaction_ids)
        case Requested(commands=commands):
            return len(commands)
        case PoisonMessageError():
            return 1
