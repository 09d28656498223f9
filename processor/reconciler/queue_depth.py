"""How deep the partitions' queues are: the reconciler adds nothing to a flood."""

import asyncio
from typing import Final

from contracts.topology import partition_queue
from runtime.broker import UNREACHABLE, BrokerLink, Channel, loss_as_error
from runtime.topology import TopologyError, check_queue

ANSWER_TIMEOUT_S: Final = 3.0
_NO_ANSWER: Final[tuple[type[BaseException], ...]] = (TopologyError, *UNREACHABLE)


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

    async def deepest(self) -> int:
        """Return the messages in the deepest queue; raises ConnectionError when nobody says.

        A missing queue is one of these cases: `ackledger migrate` mends it while we run.
        """
        channel = self._channel
        if channel is None:
            raise ConnectionError("not connected to the broker")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                with loss_as_error():
                    return max([await check_queue(channel, queue) for queue in self._queues])
        except _NO_ANSWER as error:
            raise ConnectionError(repr(error)) from error

    async def _opened(self, channel: Channel) -> None:
        self._channel = channel
        self._ready.set()

    def _lost(self) -> None:
        self._channel = None
        self._ready.clear()
