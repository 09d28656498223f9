"""Consuming one queue: deliveries in their order, and batches of what waits.

What a message means is not known here: `decode` is handed in, and called when the message is taken.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import structlog
from pamqp.commands import Basic

from runtime.amqp.connection import (
    CONNECT_TIMEOUT_S,
    UNREACHABLE,
    BrokerLink,
    Channel,
    loss_as_error,
)
from runtime.amqp.incoming import (
    Arrival,
    DeliveringChannel,
    FilteredConnection,
    open_delivering_channel,
)
from runtime.amqp.topology import TopologyError, check_queue
from runtime.amqp.watchdog import QUIET_MAX_S, ConsumerWatchdog, Consuming, Loss

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
ACK_TIMEOUT_S: Final = 30.0
"""For an ack to be written. On a connection that just ended the library may wait for ever."""
DECODING_SLICE_S: Final = 0.005
"""Decoding without a break: heartbeats, acks and other partitions have their turn between."""

STAND_BACK_S: Final = 4.0
"""How much later than the first a second in line consumes, on each new channel: longer than a
connection takes to be made anew, so that after a restart of the broker the line is the same."""
FIRST_PRIORITY: Final = 10
"""Of whoever is first in line: from 4.0 on the broker hands it the queue back when it returns, as
soon as what the other has in hand is settled. Earlier series leave it where it is."""

log = structlog.get_logger()


class Line(Enum):
    """Where a consumer stands among those of a queue of which one is active."""

    ANYWHERE = "anywhere"
    """All are alike: whoever comes first is the active one."""
    FIRST = "first"
    SECOND = "second"
    """It takes over where no first one is."""


class Ack(NamedTuple):
    """An ack to send: of one delivery, or of all up to it."""

    tag: int
    is_multiple: bool


class UnknownTagError(Exception):
    """A delivery that this channel did not make, or that was settled before."""


class Unsettled:
    """The deliveries of one channel that are not settled, in the order in which they came.

    An ack of many names no delivery that is not settled: that holds by the way acks are made, and
    whoever posts need not know in which order it settles. One channel, one of these.
    """

    def __init__(self) -> None:
        self._octets: OrderedDict[int, int] = OrderedDict()
        self.octets = 0
        """Of all of them together."""

    def __len__(self) -> int:
        return len(self._octets)

    def add(self, tag: int, octets: int) -> None:
        """Note a delivery; tags only grow."""
        self._octets[tag] = octets
        self.octets += octets

    def settle(self, tags: Sequence[int]) -> list[Ack]:
        """Settle deliveries, given in their order, and return the acks that tell the broker.

        Raises UnknownTagError, and settles nothing, if one of them is not unsettled.
        """
        if not all(tag in self._octets for tag in tags) or len(set(tags)) < len(tags):
            raise UnknownTagError(f"not all of {len(tags)} deliveries are unsettled")
        for tag in tags:
            self.octets -= self._octets.pop(tag)
        first_open = next(iter(self._octets), None)
        if first_open is None or (tags and first_open > tags[-1]):
            return [Ack(tags[-1], is_multiple=True)] if tags else []
        before = [tag for tag in tags if tag < first_open]
        whole = [Ack(before[-1], is_multiple=True)] if before else []
        return whole + [Ack(tag, is_multiple=False) for tag in tags if tag > first_open]


class Delivery(Protocol):
    """A decoded message, as far as its consumer has to know it."""

    @property
    def channel(self) -> DeliveringChannel:
        """Where it is acked."""

    @property
    def tag(self) -> int:
        """What acks it there."""

    @property
    def weight(self) -> int:
        """What it adds to a batch: transactions, octets."""


Decoded = TypeVar("Decoded", bound=Delivery)


@dataclass(slots=True)
class _Waiting(Generic[Decoded]):
    """A message that waits for its batch, and what it comes to, once somebody looked."""

    arrival: Arrival
    weight: int
    delivery: Decoded | None = None


def _weightless(_: Arrival) -> int:
    return 0


def _ignore(_: object) -> None:
    """No metric."""


class Consumer(Generic[Decoded]):
    """The deliveries of one queue. Its callback only enqueues; whoever takes them settles them.

    Deliveries belong to the channel that made them. When that is given back or lost, nothing of it
    is acked any more, and the broker delivers it again on the next.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        name: str,
        decode: Callable[[Arrival], Decoded],
        estimate: Callable[[Arrival], int] = _weightless,
        prefetch: int,
        octets_max: int = IN_HAND_OCTETS_MAX,
        quiet_max_s: float = QUIET_MAX_S,
        line: Line = Line.ANYWHERE,
        on_waiting: Callable[[int], object] = _ignore,
        on_rebuilt: Callable[[Loss], object] = _ignore,
    ) -> None:
        """`decode` must not raise; `estimate` guesses a delivery's weight without decoding it.

        `prefetch` and `octets_max` bound the deliveries in hand, unsettled ones included. After
        `quiet_max_s` without a delivery it begins anew. `on_waiting` gets the number of deliveries
        that wait for the next batch, `on_rebuilt` the reason for a new consumer.
        """
        self._queue = queue
        self._decode = decode
        self._estimate = estimate
        self._prefetch = prefetch
        self._octets_max = octets_max
        self._line = line
        self._on_waiting = on_waiting
        self._on_rebuilt = on_rebuilt
        self._waiting: deque[_Waiting[Decoded]] = deque()
        self._waiting_weight = 0
        self._arrived = asyncio.Event()
        self._channel: DeliveringChannel | None = None
        self._tag: str | None = None
        self._unsettled = Unsettled()
        self._acking = asyncio.Lock()
        self._is_held = False
        self._is_routine = False
        self._arrivals = 0
        self._endings = 0
        self._is_paused = False
        self._is_stopping = False
        self._link = BrokerLink(
            url, name=name, opened=self._consume, lost=self._forget, opening=self._open
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

    def is_current(self, delivery: Decoded) -> bool:
        """Whether the channel that delivered it still lives: acks of any other are dropped."""
        return delivery.channel is self._channel

    async def run(self) -> None:
        """Keep consuming until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.run())
            group.create_task(self._watchdog.run())

    async def take(self, weight_max: int) -> list[Decoded]:
        """Return all that waits, up to a bound of their weights; at least one delivery.

        All of one channel. Returns an empty list once stopped and empty-handed.
        """
        while True:
            while not self._waiting:
                if self._is_stopping:
                    return []
                self._arrived.clear()
                await self._arrived.wait()
            taken = await self._take_waiting(weight_max)
            self._on_waiting(len(self._waiting))
            if taken:
                return taken

    async def _take_waiting(self, weight_max: int) -> list[Decoded]:
        """Decode and take; nothing, if the channel went meanwhile."""
        channel = self._channel
        taken: list[Decoded] = []
        weight = 0
        break_at = time.perf_counter() + DECODING_SLICE_S
        while self._waiting:
            first = self._waiting[0]
            delivery = first.delivery = first.delivery or self._decode(first.arrival)
            weight += delivery.weight
            if taken and weight > weight_max:
                break
            self._waiting.popleft()
            self._waiting_weight -= first.weight
            taken.append(delivery)
            if time.perf_counter() >= break_at:
                await asyncio.sleep(0)
                if channel is not self._channel:
                    return []
                break_at = time.perf_counter() + DECODING_SLICE_S
        return taken

    def has_waiting(self, weight: int) -> bool:
        """Whether about so much waits, by estimate: a batch behind the one that was taken."""
        return self._waiting_weight >= weight

    async def ack(self, deliveries: Sequence[Decoded]) -> None:
        """Settle these deliveries, given in their order; lost acks come again.

        No other delivery is acked with them, whatever else is in hand.
        """
        channel = self._channel
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S), self._acking:
                is_sent = await self._send_acks(deliveries)
        except UNREACHABLE as error:
            log.warning("ack_failed", queue=self._queue, error=repr(error))
            if isinstance(error, TimeoutError) and channel is self._channel:
                # What was settled and not sent comes again, if the channel ends.
                self._end_channel()
            return
        if not is_sent:
            log.info("stale_ack_dropped", queue=self._queue, deliveries=len(deliveries))
            return
        if (
            channel is not None
            and channel is self._channel
            and self._unsettled.octets <= self._octets_max
        ):
            self._read(channel)

    async def _send_acks(self, deliveries: Sequence[Decoded]) -> bool:
        """Settle and send, one call after the other; nothing, and False, if the channel is gone.

        The library's queue lets a later frame pass an earlier one when it is full: an ack of many
        would come before an ack of one of them, for which the broker closes the channel.
        """
        channel = self._channel
        if channel is None or not all(map(self.is_current, deliveries)):
            return False
        acks = self._unsettled.settle([delivery.tag for delivery in deliveries])
        with loss_as_error():
            for ack in acks[:-1]:
                await channel.basic_ack(ack.tag, multiple=ack.is_multiple, wait=False)
            for ack in acks[-1:]:
                await channel.basic_ack(ack.tag, multiple=ack.is_multiple)
        return True

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

    async def _open(self, connection: FilteredConnection) -> Channel:
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
        if self._line is Line.SECOND:
            await asyncio.sleep(STAND_BACK_S)
        try:
            waiting = await check_queue(channel, self._queue)
        except TopologyError as error:
            log.error("queue_missing", queue=self._queue, detail=str(error))  # noqa: TRY400
            raise ConnectionError(str(error)) from error
        await channel.basic_qos(prefetch_count=self._prefetch)
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        self._check_not_ended(endings)
        self._begin(channel)
        arguments: dict[str, Any] = {"x-consumer-timeout": CONSUMER_TIMEOUT_S * 1000}
        if self._line is Line.FIRST:
            arguments["x-priority"] = FIRST_PRIORITY
        consuming = await channel.basic_consume(self._queue, _never_called, arguments=arguments)
        self._check_not_ended(endings)
        self._tag = consuming.consumer_tag
        tell = log.debug if self._is_routine else log.info
        self._is_routine = False
        tell("consuming", queue=self._queue, waiting=waiting)

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
        self._link.cut(is_routine=self._is_routine)

    def _forget(self) -> None:
        """Forget what a lost channel delivered: the broker delivers it again."""
        if self._channel is not None:
            # Whoever closes it has to read the broker's answer.
            self._read(self._channel)
        self._channel = None
        self._tag = None
        self._unsettled = Unsettled()
        # An ack that hangs on the lost channel holds up none on the next.
        self._acking = asyncio.Lock()
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_weight = 0
        self._on_waiting(0)

    def _enqueue(self, message: Arrival) -> None:
        if message.channel is not self._channel or self._is_stopping or self._is_paused:
            return
        self._arrivals += 1
        self._unsettled.add(message.tag, len(message.body) + MESSAGE_OCTETS)
        weight = self._estimate(message)
        self._waiting.append(_Waiting(message, weight))
        self._waiting_weight += weight
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
        # Who had nothing to do for a minute begins anew: that is no news, and so at debug.
        self._is_routine = loss is Loss.QUIET
        tell = log.debug if self._is_routine else log.warning
        tell("consumer_lost", queue=self._queue, reason=loss.value)
        self._on_rebuilt(loss)
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
