"""The assets that operators registered: every process learns them while it runs.

Processes learn of a new asset at slightly different times. So each writes amounts in it as soon as
it has read it, and lets requests name it only USABLE_AFTER_S later, when all have: no process meets
a currency that it cannot write.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from contracts.money import register_asset
from runtime.postgres.pool import UNREACHABLE, Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.lifecycle import Loop
from runtime.service.periodic import one_of, repeat
from runtime.service.status_server import Check, DependencyState

READ_INTERVAL_S: Final = 1.0
USABLE_AFTER_S: Final = 5.0
"""Between the registration and the first request, by the database's clock: five reads."""
ASSETS_MAX: Final = 1_000
"""Registered assets: every process reads all of them each second, in a millisecond."""

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


async def read_assets(pool: "Pool | Connection") -> None:
    """Learn the registered assets once; raises what the database raises."""
    # Usable a read too early rather than too late: at the promised moment every process takes it.
    rows = await pool.fetch(load_queries("runtime.postgres")["read_assets"], READ_INTERVAL_S)
    for row in rows:
        register_asset(row["code"], row["exponent"], is_usable=row["is_usable"])


class AssetWatch:
    """A loop that learns the registered assets; what needs them begins after the first read."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._was_read = asyncio.Event()

    async def run(self) -> None:
        """Read again and again until cancelled; what is known stays known meanwhile."""
        await repeat(
            self.run_once, every_s=READ_INTERVAL_S, is_passing=one_of(*_PASSING), failed=self._tell
        )

    async def run_once(self) -> None:
        """Read once; raises what the database raises."""
        await read_assets(self._pool)
        self._was_read.set()

    def before(self, loop: Loop) -> Loop:
        """Return a loop that begins after the first read: by then every asset is known."""
        return _Later(self._was_read, loop)

    def checked(self, check: Check) -> Check:
        """Return a check of the database that is down until the assets were read, too."""

        async def read() -> DependencyState:
            state = await check()
            if not state.is_up or self._was_read.is_set():
                return state
            return DependencyState(is_up=False, detail="assets not read; run: ackledger migrate")

        return read

    def _tell(self, error: Exception) -> None:
        tell = log.info if self._was_read.is_set() else log.warning
        tell("assets_not_read", error=repr(error))


@dataclass(frozen=True, slots=True)
class _Later:
    """A loop that waits for its beginning."""

    begin: asyncio.Event
    loop: Loop

    async def run(self) -> None:
        await self.begin.wait()
        await self.loop.run()
