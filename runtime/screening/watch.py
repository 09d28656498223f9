"""The rules in force: every processor learns of a change while it runs.

A batch is decided under the rules that this process has read, and its write names their version.
Where a later one is in force by then, the database refuses the write, and the batch is decided
again under what is read in its own database transaction. So reading each second is only for speed:
a rule that was enabled is never skipped for longer than the five seconds that it is announced
before, however slow, paused or cut off a processor is.
"""

import asyncio
from typing import Final

import asyncpg
import orjson
import structlog

from runtime.postgres.pool import UNREACHABLE, Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.screening.model import RuleBook, limits_of, rule_of
from runtime.service.periodic import one_of, repeat

READ_INTERVAL_S: Final = 1.0

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)

log = structlog.get_logger()


class CurrentRules:
    """The rules that a process has read last; none before the first reading."""

    def __init__(self, book: RuleBook | None = None) -> None:
        self.book = book or RuleBook()

    async def read(self, connection: Connection) -> None:
        """Read them, if there is a later version; raises what the database raises."""
        sql = load_queries("runtime.screening")
        version: int = await connection.fetchval(sql["read_version"])
        if version != self.book.version:
            row = await connection.fetchrow(sql["read_rules"])
            assert row is not None, "a SELECT without FROM has one row"  # noqa: S101
            self.book = _book(row)
            log.info("rules_read", version=self.book.version, rules=len(self.book.rules))


class RulesWatch:
    """A loop that keeps the rules of a process current."""

    def __init__(self, pool: Pool, rules: CurrentRules) -> None:
        self._pool = pool
        self._rules = rules

    async def run(self) -> None:
        """Read again and again until cancelled; what is known stays known meanwhile."""
        await repeat(
            self.run_once,
            every_s=READ_INTERVAL_S,
            is_passing=one_of(*_PASSING),
            failed=lambda error: log.warning("rules_not_read", error=repr(error)),
        )

    async def run_once(self) -> None:
        """Read once; raises what the database raises."""
        async with asyncio.timeout(READ_INTERVAL_S * 10), self._pool.acquire() as connection:
            await self._rules.read(connection)


def _book(row: asyncpg.Record) -> RuleBook:
    return RuleBook(
        row["version"],
        tuple(rule_of(one) for one in orjson.loads(row["rules"])),
        limits_of(orjson.loads(row["limits"])),
    )
