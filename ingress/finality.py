"""Waiting for the final state: `Prefer: wait=N`, without a query for each request that waits.

The processor nudges after each commit (NOTIFY); one query then asks for all that is awaited. A lost
nudge costs at most LOOK_INTERVAL_S.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.backoff import Backoff
from runtime.database import UNREACHABLE, Pool, connect
from runtime.queries import load_queries

CHANNEL: Final = "ackledger_posted"
LOOK_INTERVAL_S: Final = 0.25
WATCH_INTERVAL_S: Final = 5.0

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


class FinalityWatch:
    """Tells when awaited transactions have reached their end."""

    def __init__(self, *, url: str, pool: Pool) -> None:
        self._url = url
        self._pool = pool
        self._sql = load_queries("ingress")
        self._awaited: dict[UUID, set[asyncio.Future[None]]] = {}
        self._nudged = asyncio.Event()
        self._anyone = asyncio.Event()

    async def wait(self, transaction_id: UUID, *, timeout_s: float) -> None:
        """Return when the transaction is final, after `timeout_s` at the latest."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(transaction_id, set()).add(future)
        self._anyone.set()
        # It may have ended before we came: look once without a nudge.
        self._nudged.set()
        try:
            await asyncio.wait({future}, timeout=timeout_s)
        finally:
            waiting = self._awaited.get(transaction_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._awaited[transaction_id]

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._look())

    async def _listen(self) -> None:
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while True:
            try:
                connection = await connect(self._url, name="ingress-listen")
                try:
                    await connection.add_listener(CHANNEL, self._nudge)
                    backoff.reset()
                    while not connection.is_closed():
                        await asyncio.sleep(WATCH_INTERVAL_S)
                        await connection.execute(self._sql["read_clock"], timeout=WATCH_INTERVAL_S)
                finally:
                    connection.terminate()
            except _PASSING as error:
                log.info("listener_lost", error=repr(error))
            await asyncio.sleep(backoff.next_delay_s())

    def _nudge(self, *_: Any) -> None:
        self._nudged.set()

    async def _look(self) -> None:
        """Ask for all that is awaited, at each nudge and at a slow beat."""
        while True:
            if not self._awaited:
                self._anyone.clear()
                await self._anyone.wait()
            self._nudged.clear()
            with suppress(*_PASSING):
                await self._look_once()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._nudged.wait()

    async def _look_once(self) -> None:
        rows = await self._pool.fetch(self._sql["read_final"], list(self._awaited))
        for row in rows:
            for future in self._awaited.get(row["id"], ()):
                if not future.done():
                    future.set_result(None)
