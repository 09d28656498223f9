"""Notifications of PostgreSQL, as one process hears them, over connections that may be lost."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg
import structlog

from runtime.postgres.pool import UNREACHABLE, connect
from runtime.postgres.queries import load_queries
from runtime.service.periodic import Backoff

POSTED: Final = "ackledger_posted"
"""The channel of commits that end transactions: it says which, where they are few."""
WATCH_INTERVAL_S: Final = 5.0
"""How often the connection is tried while nothing comes."""

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


class Listener:
    """Calls back at each notification on a channel.

    What is sent while the connection is lost is not heard: whoever listens also looks by itself.
    """

    def __init__(
        self, url: str, *, name: str, channel: str, notified: Callable[[str], object]
    ) -> None:
        """`notified` gets the text of each notification; `name` shows in pg_stat_activity."""
        self._url = url
        self._name = name
        self._channel = channel
        self._notified = notified
        self._sql = load_queries("runtime.postgres")

    async def run(self) -> None:
        """Listen until cancelled."""
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while True:
            try:
                connection = await connect(self._url, name=self._name)
                try:
                    async with asyncio.timeout(WATCH_INTERVAL_S):
                        await connection.add_listener(self._channel, self._hear)
                    backoff.reset()
                    while not connection.is_closed():
                        await asyncio.sleep(WATCH_INTERVAL_S)
                        await connection.execute(self._sql["beat"], timeout=WATCH_INTERVAL_S)
                finally:
                    connection.terminate()
            except _PASSING as error:
                log.info("listener_lost", error=repr(error))
            await asyncio.sleep(backoff.next_delay_s())

    def _hear(self, *notification: Any) -> None:
        *_, text = notification
        self._notified(text)
