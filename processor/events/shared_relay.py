"""The relay of processes that publish what others post: one of them works, the others stand by.

Two relays at once would lose nothing, since rows are claimed; but of two commits that follow each
other the second one's events could be published first.
"""

import asyncio
from typing import Final

import structlog

from processor.events.relay import OutboxRelay
from runtime.amqp.publisher import Publisher
from runtime.postgres.leadership import Leadership

LEAD_KEY: Final = 0x61636B65
"""Of the advisory lock; any number, the same for every process of Ackledger: 'acke' in ASCII."""
BROKER_AWAY_MAX_S: Final = 5.0
"""A process that has had no broker for so long lets another one lead, which may have one."""
LOOK_S: Final = 1.0

log = structlog.get_logger()


class SharedRelay:
    """Runs a relay while this process leads, which it asks for only with a broker."""

    def __init__(self, url: str, *, relay: OutboxRelay, publisher: Publisher) -> None:
        """`url` is the database's; `publisher` is the relay's own."""
        self._relay = relay
        self._publisher = publisher
        self._leadership = Leadership(url, name="relay-lead", lock_key=LEAD_KEY)

    async def run(self) -> None:
        """Follow or lead until cancelled."""
        await self._leadership.follow(self._work, able=self._publisher.wait_until_up)

    async def _work(self) -> None:
        """Relay until the broker has been away for too long."""
        relaying = asyncio.ensure_future(self._relay.run())
        watching = asyncio.ensure_future(self._broker_away())
        try:
            done, _ = await asyncio.wait({relaying, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            relaying.cancel()
            watching.cancel()
            await asyncio.gather(relaying, watching, return_exceptions=True)

    async def _broker_away(self) -> None:
        """Return when there has been no broker for BROKER_AWAY_MAX_S."""
        clock = asyncio.get_running_loop().time
        up_at = clock()
        while clock() - up_at < BROKER_AWAY_MAX_S:
            await asyncio.sleep(LOOK_S)
            if self._publisher.is_up:
                up_at = clock()
        log.warning("lead_left_without_broker", after_s=BROKER_AWAY_MAX_S)
