"""How deep the partitions' queues are: the reconciler adds nothing to a flood."""

import asyncio
from dataclasses import dataclass
from typing import Final

from contracts.topology import partition_queue
from processor.reconciler import metrics
from runtime.broker import UNREACHABLE, BrokerLink, Channel, loss_as_error
from runtime.topology import TopologyError, look_at_queue

ANSWER_TIMEOUT_S: Final = 3.0
_NO_ANSWER: Final[tuple[type[BaseException], ...]] = (TopologyError, *UNREACHABLE)


@dataclass(frozen=True, slots=True)
class QueuesSeen:
    """The partitions' queues at one moment."""

    deepest: int
    """Messages that wait in the deepest of them."""
    are_served: bool
    """Every one is empty and has a consumer: whatever was announced before is in its hands."""


class QueueDepth:
    """Asks the broker, over a connection of its own, how many messages wait."""

    def __init__(self, url: str, *, partitions: int) -> None:
        self._queues = [partition_queue(number) for number in range(partitions)]
        self._channel: Channel | None = None
        self._ready = asyncio.Event()
        self._link = BrokerLink(url, name="reconciler-depth", opened=self._opened, lost=self._lost)

    async def run(self) -> None:
        """Keep connected until cancelled."""
        await self._link.run()

    @property
    def is_up(self) -> bool:
        """Whether the broker can be asked."""
        return self._channel is not None

    async def wait_until_up(self) -> None:
        """Return as soon as the broker can be asked."""
        await self._ready.wait()

    async def look(self) -> QueuesSeen:
        """Look at every queue; raises ConnectionError when nobody answers.

        A missing queue is one of these cases: `ackledger migrate` mends it while we run.
        """
        channel = self._channel
        if channel is None:
            raise ConnectionError("not connected to the broker")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                with loss_as_error():
                    seen = [await look_at_queue(channel, queue) for queue in self._queues]
        except _NO_ANSWER as error:
            raise ConnectionError(repr(error)) from error
        for queue, (waiting, consumers) in zip(self._queues, seen, strict=True):
            metrics.UNSERVED.labels(queue).set(0 if consumers else waiting)
        return QueuesSeen(
            deepest=max(waiting for waiting, _ in seen),
            are_served=all(waiting == 0 and consumers > 0 for waiting, consumers in seen),
        )

    async def _opened(self, channel: Channel) -> None:
        self._channel = channel
        self._ready.set()

    def _lost(self) -> None:
        self._channel = None
        self._ready.clear()
