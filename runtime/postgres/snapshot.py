"""Two connections that read one moment: each has a process of its own in the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from runtime.postgres.queries import load_queries

if TYPE_CHECKING:
    import asyncpg

_PLACE: Final = "exported snapshot"
"""What stands in the statement for the snapshot's name: it takes no parameter."""


@asynccontextmanager
async def one_snapshot(
    connection: "asyncpg.Connection[asyncpg.Record]",
    beside: "asyncpg.Connection[asyncpg.Record] | None" = None,
) -> AsyncIterator[None]:
    """Begin a read-only database transaction on each connection; both see the same moment.

    Raises what the database raises, and asyncpg.InterfaceError where one is in a transaction.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        if beside is None:
            yield
            return
        sql = load_queries("runtime.postgres")
        name: str = await connection.fetchval(sql["export_snapshot"])
        async with beside.transaction(isolation="repeatable_read", readonly=True):
            await beside.execute(sql["import_snapshot"].replace(_PLACE, name))
            yield
