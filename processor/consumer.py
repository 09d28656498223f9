"""Consuming one partition: deliveries in their order, and batches of what waits."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from pamqp.commands import Basic

from processor.decoding import Delivery, decoded, estimated_transactions
from processor.metrics import CONSUMERS_REBUILT, WAITING_DELIVERIES
from processor.unsettled import Unsettled
from processor.watchdog import QUIET_MAX_S, ConsumerWatchdog, Consuming, Loss
from runtime.broker import (
    CONNECT_TIMEOUT_S,
    UNREACHABLE,
    BrokerLink,
    Channel,
    loss_as_error,
    user_of,
)
from runtime.delivering import Arrival, DeliveringChannel, open_delivering_channel
from runtime.sifting import SiftedConnection
from runtime.topology import TopologyError, check_queue

CONSUMER_TIMEOUT_S: Final = 15 * 60
"""After which the broker takes an unacked delivery back from us, where it heeds a consumer's own
bound (4.3; its default is 30 minutes). A batch is given back long before."""
IN_HAND_OCTETS_MAX: Final = 32 * 1024 * 1024
"""Of bodies in hand, unsettled ones included; with more, nothing is read from the socket. Thousands
of usual messages fit, and 32 of the largest."""
SIPPED_MAX: Final = 2
"""Times as much may be in hand where a batch is held for minutes: the broker gives up a connection
on which nothing moves, so a little is read every few seconds, up to this."""
MESSAGE_OCTETS: Final = 512
"""What a message in hand takes beside its body."""
DECODING_SLICE_S: Final = 0.005
"""Decoding without a break: heartbeats, acks and other partitions have their turn between."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    """A message that waits for its batch, and what it comes to, once somebody looked."""

    arrival: Arrival
    transactions: int
    delivery: Delivery | None = None


class Consumer:
    """The deliveries of one queue. Its callback only enqueues; whoever takes them settles them.

    Deliveries belong to the channel that made them. When that is given back or lost, nothing of it
    is acked any more, and the broker delivers it again on the next.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        prefetch: int,
        octets_max: int = IN_HAND_OCTETS_MAX,
        quiet_max_s: float = QUIET_MAX_S,
    ) -> None:
        """`prefetch` and `octets_max` bound the deliveries in hand, unsettled ones included.

        After `quiet_max_s` without a delivery it begins anew.
        """
        self._queue = queue
        self._own_user = user_of(url)
        self._prefetch = prefetch
        self._octets_max = octets_max
        self._waiting: deque[_Waiting] = deque()
        self._waiting_transactions = 0
        self._arrived = asyncio.Event()
        self._channel: DeliveringChannel | None = None
        self._tag: str | None = None
        self._unsettled = Unsettled()
        self._is_held = False
        self._arrivals = 0
        self._endings = 0
        self._is_paused = False
        self._is_stopping = False
        self._link = BrokerLink(
            url,
            name=f"consume-{queue}",
            opened=self._consume,
            lost=self._forget,
            opening=self._open,
        )
        self._watchdog = ConsumerWatchdog(
            queue, consuming=self._consuming, rebuild=self._rebuild, quiet_max_s=quiet_max_s
        )

    @property
    def is_up(self) -> bool:
        """Whether the broker can deliver to us (a standby is up, too)."""
        return self._channel is not None

    @property
    def octets_in_hand(self) -> int:
        """Of the deliveries in hand, unsettled ones included; what `octets_max` bounds."""
        return self._unsettled.octets

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

        All of one channel. Returns an empty list once stopped and empty-handed.
        """
        while True:
            while not self._waiting:
                if self._is_stopping:
                    return []
                self._arrived.clear()
                await self._arrived.wait()
            taken = await self._take_waiting(transactions_max)
            WAITING_DELIVERIES.set(len(self._waiting))
            if taken:
                return taken

    async def _take_waiting(self, transactions_max: int) -> list[Delivery]:
        """Decode and take; nothing, if the channel went meanwhile."""
        channel = self._channel
        taken: list[Delivery] = []
        count = 0
        break_at = time.perf_counter() + DECODING_SLICE_S
        while self._waiting:
            first = self._waiting[0]
            delivery = first.delivery = first.delivery or decoded(
                first.arrival, own_user=self._own_user
            )
            count += delivery.transactions
            if taken and count > transactions_max:
                break
            self._waiting.popleft()
            self._waiting_transactions -= first.transactions
            taken.append(delivery)
            if time.perf_counter() >= break_at:
                await asyncio.sleep(0)
                if channel is not self._channel:
                    return []
                break_at = time.perf_counter() + DECODING_SLICE_S
        return taken

    def has_waiting(self, transactions: int) -> bool:
        """Whether about so many transactions wait: a batch behind the one that was taken."""
        return self._waiting_transactions >= transactions

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settle these deliveries, given in their order; lost acks come again.

        No other delivery is acked with them, whatever else is in hand.
        """
        channel = self._channel
        if channel is None or not all(map(self.is_current, deliveries)):
            log.info("stale_ack_dropped", queue=self._queue, deliveries=len(deliveries))
            return
        acks = self._unsettled.settle([delivery.tag for delivery in deliveries])
        try:
            with loss_as_error():
                for ack in acks[:-1]:
                    await channel.basic_ack(ack.tag, multiple=ack.is_multiple, wait=False)
                for ack in acks[-1:]:
                    await channel.basic_ack(ack.tag, multiple=ack.is_multiple)
        except UNREACHABLE as error:
            log.warning("ack_failed", queue=self._queue, error=repr(error))
            return
        if channel is self._channel and self._unsettled.octets <= self._octets_max:
            self._read(channel)

    def give_back(self) -> None:
        """Give back all deliveries, those that were taken too, and consume nothing until `resume`.

        Nothing of this channel is acked from here on. The queue's next consumer, if there is one,
        gets the messages now. For each of them it costs one of the deliveries that the broker
        allows.
        """
        self._is_paused = True
        self._end_channel()

    def resume(self) -> None:
        """Consume again, on a channel that was not there before `give_back`."""
        if not self._is_paused:
            return
        self._is_paused = False
        if self._channel is not None:
            # Connected meanwhile, and held ready. If not, the link is about to, and may not be cut
            # again: it could have delivered by then, and a commit would come back unacked.
            self._end_channel()

    def stop(self) -> None:
        """Take no more; what waits goes back to the broker when the connection closes.

        The consumer is not cancelled: the broker would make a standby the active one at once, and
        hand it what stands behind the deliveries that are still in hand here, out of order.
        """
        self._is_stopping = True
        self._drop_waiting()
        self._arrived.set()
        if self._channel is not None:
            self._read(self._channel)

    async def _open(self, connection: SiftedConnection) -> Channel:
        return await open_delivering_channel(
            connection, arrived=self._enqueue, timeout_s=CONNECT_TIMEOUT_S
        )

    async def _consume(self, channel: Channel) -> None:
        """Begin on a new channel; while paused or stopping, only hold the connection ready."""
        if not isinstance(channel, DeliveringChannel):
            raise TypeError("a consumer has a channel that delivers")
        if self._is_paused or self._is_stopping:
            self._begin(channel)
            return
        endings = self._endings
        try:
            waiting = await check_queue(channel, self._queue)
        except TopologyError as error:
            log.error("queue_missing", queue=self._queue, detail=str(error))  # noqa: TRY400
            raise ConnectionError(str(error)) from error
        await channel.basic_qos(prefetch_count=self._prefetch)
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._check_not_ended(endings)
        self._begin(channel)
        consuming = await channel.basic_consume(
            self._queue, _never_called, arguments={"x-consumer-timeout": CONSUMER_TIMEOUT_S * 1000}
        )
        self._check_not_ended(endings)
        self._tag = consuming.consumer_tag
        log.info("consuming", queue=self._queue, waiting=waiting)

    def _check_not_ended(self, endings: int) -> None:
        """Raise if everything was given back while this channel was being opened."""
        if endings != self._endings:
            raise ConnectionResetError("given back before it consumed")

    def _begin(self, channel: DeliveringChannel) -> None:
        self._forget()
        self._channel = channel

    def _end_channel(self) -> None:
        """Ack nothing of this channel any more, and have it cut."""
        self._endings += 1
        self._forget()
        self._link.cut()

    def _forget(self) -> None:
        """Forget what a lost channel delivered: the broker delivers it again."""
        if self._channel is not None:
            # Whoever closes it has to read the broker's answer.
            self._read(self._channel)
        self._channel = None
        self._tag = None
        self._unsettled = Unsettled()
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_transactions = 0
        WAITING_DELIVERIES.set(0)

    def _enqueue(self, message: Arrival) -> None:
        if message.channel is not self._channel or self._is_stopping or self._is_paused:
            return
        self._arrivals += 1
        self._unsettled.add(message.tag, len(message.body) + MESSAGE_OCTETS)
        transactions = estimated_transactions(message)
        self._waiting.append(_Waiting(message, transactions))
        self._waiting_transactions += transactions
        self._arrived.set()
        if self._unsettled.octets > self._octets_max:
            self._is_held = True
            message.channel.hold(may_sip=self._unsettled.octets < SIPPED_MAX * self._octets_max)

    def _read(self, channel: DeliveringChannel) -> None:
        """Take from the socket again what had to wait there."""
        if self._is_held:
            self._is_held = False
            channel.release()

    def _cancelled(self, _: Basic.Cancel) -> None:
        """Begin anew: the broker ended our consumer, as for a queue that is gone or a time-out."""
        self._rebuild(Loss.CANCELLED)

    def _rebuild(self, loss: Loss) -> None:
        log.warning("consumer_lost", queue=self._queue, reason=loss.value)
        CONSUMERS_REBUILT.labels(loss.value).inc()
        self._end_channel()

    def _consuming(self) -> Consuming | None:
        if self._channel is None or self._tag is None:
            return None
        if self._is_stopping or self._is_paused or self._is_held:
            return None
        return Consuming(
            self._channel, self._tag, arrived=self._arrivals, in_hand=len(self._unsettled)
        )


async def _never_called(_: object) -> None:
    """Stand for a consumer's callback in aiormq's table: deliveries take a shorter way."""
