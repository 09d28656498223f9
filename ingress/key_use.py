"""When API keys were last used: written now and then, beside the requests."""

import time
from typing import Final

import asyncpg
import structlog

from runtime.postgres.pool import UNREACHABLE, Pool
from runtime.postgres.queries import load_queries
from runtime.service.periodic import one_of, repeat

WRITE_INTERVAL_S: Final = 5.0
NOTED_EVERY_S: Final = 60.0
"""A key's last use is written at most once in this time."""
REMEMBERED_MAX: Final = 10_000

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


class KeyUse:
    """Takes note of keys in use, by their hashes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("ingress")
        self._noted_at: dict[bytes, float] = {}
        self._waiting: set[bytes] = set()

    def note(self, key_hash: bytes) -> None:
        """Note that a key is used; beyond REMEMBERED_MAX keys some are not noted."""
        now = time.monotonic()
        if now - self._noted_at.get(key_hash, -NOTED_EVERY_S) < NOTED_EVERY_S:
            return
        if len(self._noted_at) >= REMEMBERED_MAX:
            self._noted_at.clear()
        self._noted_at[key_hash] = now
        if len(self._waiting) < REMEMBERED_MAX:
            self._waiting.add(key_hash)

    async def run(self) -> None:
        """Write until cancelled; what cannot be written now waits."""
        await repeat(
            self.run_once,
            every_s=WRITE_INTERVAL_S,
            is_passing=one_of(*_PASSING),
            failed=lambda error: log.info("key_use_not_written", error=repr(error)),
        )

    async def run_once(self) -> None:
        """Write what waits; raises what the database raises."""
        if not self._waiting:
            return
        hashes = list(self._waiting)
        await self._pool.execute(self._sql["note_key_use"], hashes, NOTED_EVERY_S)
        self._waiting.difference_update(hashes)
