"""The circuit: no messages are held while the database cannot be reached from here."""

import asyncio
from typing import Final

import structlog

from processor import metrics
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.resilience.error_classification import GivenBackError
from runtime.service.backoff import Backoff

PROBE_TIMEOUT_S: Final = 2.0
PROBE_FIRST_S: Final = 0.1
PROBE_MOST_S: Final = 1.0
"""Between two probes. Work goes on this much after the database is back, and a little more."""

log = structlog.get_logger()


class Circuit:
    """One for a process. Closed: batches are posted. Open: nothing is consumed until a probe tells.

    It opens for a database that does not answer or takes no writes, not for one that answers and
    fails a batch: then every other processor would fail it, too, and giving deliveries back would
    only spend them. An outage costs a message one delivery per processor, however long it lasts,
    so the broker's limit of deliveries is not in sight.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("processor")
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._closed.set()
        metrics.CIRCUIT_OPEN.set(0)

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be consumed."""
        return self._opened.is_set()

    async def run(self) -> None:
        """Probe whenever the circuit is open, until cancelled."""
        while True:
            await self._opened.wait()
            backoff = Backoff(first_s=PROBE_FIRST_S, most_s=PROBE_MOST_S)
            while True:
                await asyncio.sleep(backoff.next_delay_s())
                if await self._ask() is None:
                    break
            self._close()

    async def wait_until_closed(self) -> None:
        """Return as soon as the database can be worked with."""
        await self._closed.wait()

    async def examine(self, error: Exception) -> None:
        """Ask the database after an error that came again and again.

        Returns if it answers; raises GivenBackError, the circuit being open, if it does not.
        """
        if not self.is_open:
            trouble = await self._ask()
            if trouble is None:
                return
            self._open(trouble)
        raise GivenBackError("the circuit is open") from error

    def _open(self, trouble: Exception) -> None:
        if self.is_open:
            return
        self._opened.set()
        self._closed.clear()
        metrics.CIRCUIT_OPEN.set(1)
        metrics.CIRCUIT_OPENINGS.inc()
        log.error("circuit_opened", error=repr(trouble))

    def _close(self) -> None:
        self._opened.clear()
        self._closed.set()
        metrics.CIRCUIT_OPEN.set(0)
        log.info("circuit_closed")

    async def _ask(self) -> Exception | None:
        """Return None if the database can be worked with, or what stands against it."""
        try:
            # The library's own bounds, one for each step, add up to more.
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._probe()
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is 'no'
            # A failover leaves connections to the old server behind: the next probe, and all work
            # after it, gets new ones.
            await self._pool.expire_connections()
            return error
        return None

    async def _probe(self) -> None:
        async with self._pool.acquire(timeout=PROBE_TIMEOUT_S) as connection:
            is_usable = await connection.fetchval(self._sql["probe"], timeout=PROBE_TIMEOUT_S)
        if not is_usable:
            raise ConnectionError("the database takes no writes, or is not migrated")
