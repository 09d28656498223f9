"""How many partitions the queues are laid out for; a process that is set to another number ends.

Which partition posts a transaction depends on their number, so two processes with different numbers
would post one wallet's transactions side by side, out of order.
"""

from typing import Final

import asyncpg
import structlog

from runtime.postgres.pool import ACQUIRE_TIMEOUT_S, UNREACHABLE, Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.periodic import one_of, repeat
from runtime.service.settings import ConfigurationError

CHECK_INTERVAL_S: Final = 10.0
"""How long a process may go on after the queues were laid out anew: they are drained then."""

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


async def read_partitions(connection: Connection) -> int | None:
    """Return for how many partitions the queues are laid out; None before the first `migrate`."""
    partitions: int | None = await connection.fetchval(
        load_queries("runtime.postgres")["read_partition_layout"]
    )
    return partitions


async def write_partitions(connection: Connection, partitions: int) -> None:
    """Note for how many partitions the queues are laid out now."""
    await connection.execute(load_queries("runtime.postgres")["write_partition_layout"], partitions)


class PartitionLayoutCheck:
    """A loop that ends its process when the queues are laid out for another number."""

    def __init__(self, pool: Pool, partitions: int) -> None:
        self._pool = pool
        self._partitions = partitions

    async def run(self) -> None:
        """Check now and then until cancelled; raises ConfigurationError."""
        await repeat(
            self.run_once,
            every_s=CHECK_INTERVAL_S,
            is_passing=one_of(*_PASSING),
            failed=lambda error: log.debug("partition_layout_not_read", error=repr(error)),
        )

    async def run_once(self) -> None:
        """Check once; raises ConfigurationError, and what the database raises."""
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            laid_out = await read_partitions(connection)
        if laid_out not in (None, self._partitions):
            raise ConfigurationError(
                f"ACKLEDGER_PARTITIONS={self._partitions}: the queues are laid out for {laid_out};"
                " set it for all processes alike, or change it with: ackledger migrate"
            )
