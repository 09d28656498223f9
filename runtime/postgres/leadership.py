"""One process among many that works, while the others stand by and take over."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn

import asyncpg
import structlog

from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import is_transient
from runtime.service.periodic import Backoff, is_set_within, repeat

POLL_INTERVAL_S: Final = 1.0
"""How often a follower asks for the lock, and the leader shows that it lives."""
SILENCE_MAX_S: Final = 5.0
"""A session that says nothing for so long is ended by the server, which frees the lock: a leader
that was stopped or cut off is followed by another within 10 s."""
LEAD_AGAIN_MAX_S: Final = 2.0
_SESSION: Final = {
    "idle_session_timeout": str(int(SILENCE_MAX_S * 1000)),
    "idle_in_transaction_session_timeout": str(int(SILENCE_MAX_S * 1000)),
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
}

log = structlog.get_logger()


class Leadership:
    """Lets one process among many work; the next takes over when its connection ends."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        lock_key: int,
        told: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """Whoever's session holds the advisory lock of this key leads.

        `told` learns whether it is ours; `name` shows in pg_stat_activity.
        """
        self._url = url
        self._name = name
        self._lock_key = lock_key
        self._told = told
        self._is_leader = False
        self._spoke_at = 0.0
        self._sql = load_queries("runtime.postgres")

    @property
    def is_leader(self) -> bool:
        """Whether this process leads now.

        Not when it has been silent for so long that another may have taken over: a process that
        was stopped and goes on cannot know yet, but its clock tells.
        """
        return self._is_leader and time.monotonic() - self._spoke_at < SILENCE_MAX_S

    async def follow(
        self,
        work: Callable[[], Awaitable[None]],
        *,
        able: Callable[[], Awaitable[None]] | None = None,
    ) -> NoReturn:
        """Follow or lead until cancelled, and `work` while this process leads.

        `able` returns when it can: before, it does not ask for the lead. A work that returns gives
        the lead away. Raises what ended the work, unless it is passing trouble.
        """
        await repeat(
            partial(self._follow_once, work, able),
            every_s=LEAD_AGAIN_MAX_S,
            is_passing=is_transient,
            failed=lambda error: log.warning("lead_lost", error=repr(error)),
            backoff=Backoff(first_s=0.2, most_s=LEAD_AGAIN_MAX_S),
        )

    async def _follow_once(
        self, work: Callable[[], Awaitable[None]], able: Callable[[], Awaitable[None]] | None
    ) -> None:
        if able is not None:
            await able()
        await self.lead(work)

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lead, then run `work`, and cancel it as soon as the lead is lost.

        Raises what ended it: an error of the connection, or of the work.
        """
        connection = await connect(
            self._url, name=self._name, statement_timeout_s=SILENCE_MAX_S, session=_SESSION
        )
        try:
            await self._win(connection)
            self._note(is_leader=True)
            await self._work_while_held(connection, work)
        finally:
            self._note(is_leader=False)
            connection.terminate()

    def _note(self, *, is_leader: bool) -> None:
        if is_leader != self._is_leader:
            log.info("lead_won" if is_leader else "lead_given_up")
        self._is_leader = is_leader
        self._told(is_leader)

    async def _win(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Ask until the lock is ours: its holder's end wakes nobody, so it has to be asked for."""
        while True:
            spoke_at = time.monotonic()
            if await connection.fetchval(
                self._sql["try_lead"], self._lock_key, timeout=SILENCE_MAX_S
            ):
                self._spoke_at = spoke_at
                return
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _work_while_held(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        work: Callable[[], Awaitable[None]],
    ) -> None:
        tasks = [
            asyncio.ensure_future(work()),
            asyncio.ensure_future(self._beat(connection)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Speak often enough to keep the session; raises when it is gone."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        while True:
            spoke_at = time.monotonic()
            await connection.fetchval(self._sql["beat"], timeout=SILENCE_MAX_S)
            self._spoke_at = spoke_at
            await is_set_within(ended, POLL_INTERVAL_S)
