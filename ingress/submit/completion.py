"""Waiting for the final state: `Prefer: wait=N`, with one query for all that ended together.

The processor nudges after each commit (NOTIFY) and says which transactions ended, where they are
few; one query then reads those that are awaited. A lost nudge costs at most LOOK_INTERVAL_S.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from uuid import UUID

import asyncpg

from runtime.postgres.listening import POSTED, Listener
from runtime.postgres.pool import UNREACHABLE, Lane, Pool
from runtime.postgres.queries import load_queries

LOOK_INTERVAL_S: Final = 0.25

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

Ending = asyncio.Future[asyncpg.Record | None]
"""Holds the row of an ended transaction, for `render_transaction`; None where time is up."""


class CompletionWatch:
    """Reads awaited transactions when they have reached their end."""

    def __init__(self, *, url: str, pool: Pool) -> None:
        self._listener = Listener(url, name="ingress-listen", channel=POSTED, notified=self._nudge)
        self._lane = Lane(pool)
        self._sql = load_queries("ingress")
        self._awaited: dict[UUID, set[Ending]] = {}
        self._to_read: set[UUID] = set()
        self._nudged = asyncio.Event()
        self._anyone = asyncio.Event()
        self._is_draining = False

    def expect(self, transaction_id: UUID, *, timeout_s: float, is_new: bool = False) -> Ending:
        """Return what will hold a transaction that was not final when it was recorded or read.

        One that is not new may have ended since, so it is asked for without a nudge too.
        """
        loop = asyncio.get_running_loop()
        ending: Ending = loop.create_future()
        if self._is_draining:
            ending.set_result(None)
            return ending
        self._awaited.setdefault(transaction_id, set()).add(ending)
        self._anyone.set()
        if not is_new:
            self._to_read.add(transaction_id)
            self._nudged.set()
        bound = loop.call_later(timeout_s, _give_up, ending)

        def forget(_: Ending) -> None:
            bound.cancel()
            self._forget(transaction_id, ending)

        ending.add_done_callback(forget)
        return ending

    async def drain(self) -> None:
        """Let nobody wait any longer: they are told how far it is."""
        self._is_draining = True
        for endings in list(self._awaited.values()):
            for ending in list(endings):
                _give_up(ending)

    def _forget(self, transaction_id: UUID, ending: Ending) -> None:
        waiting = self._awaited.get(transaction_id, set())
        waiting.discard(ending)
        if not waiting:
            self._awaited.pop(transaction_id, None)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listener.run())
            group.create_task(self._look())

    def _nudge(self, named: str) -> None:
        """Take note of which of the awaited ended: of those that are named, or perhaps of all."""
        ended: Iterable[UUID] = map(UUID, named.split()) if named else self._awaited
        self._to_read.update(one for one in ended if one in self._awaited)
        if self._to_read:
            self._nudged.set()

    async def _look(self) -> None:
        """Read what may have ended, at each nudge; all that is awaited, at a slow beat."""
        clock = asyncio.get_running_loop().time
        beat_at = clock()
        while True:
            if not self._awaited:
                self._anyone.clear()
                await self._anyone.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at):
                    await self._nudged.wait()
            self._nudged.clear()
            if clock() >= beat_at:
                self._to_read.update(self._awaited)
                beat_at = clock() + LOOK_INTERVAL_S
            ids = [one for one in self._to_read if one in self._awaited]
            self._to_read.clear()
            with suppress(*_PASSING):
                await self._look_at(ids)

    async def _look_at(self, ids: list[UUID]) -> None:
        if not ids:
            return
        async with self._lane.use() as connection:
            rows = await connection.fetch(self._sql["read_final"], ids)
        for row in rows:
            for ending in list(self._awaited.get(row["id"], ())):
                if not ending.done():
                    ending.set_result(row)


def _give_up(ending: Ending) -> None:
    if not ending.done():
        ending.set_result(None)
