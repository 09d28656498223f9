"""One healthy run, and copies of its books to break."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from runtime.postgres.pool import connect
from tests.conftest import Connection, create_database, drop_database
from tests.integration.ingress.serving import open_doors
from tests.tools.chaos.attacked import (
    BATCH_SIZE,
    HEARD,
    LISTENED_TO,
    Run,
    answered,
    chaos_doors,
    run_load,
)
from tools.chaos.pressure import Pressure
from tools.stack import Stack
from tools.system import Instance, Role

ANSWERS = 1200
"""Five seconds of load and more."""


@pytest.fixture(scope="package")
async def finished(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Run]:
    """A run on a healthy system, which is stopped: its books can be copied."""
    directory = tmp_path_factory.mktemp("finished")
    second = Instance(role=Role.INGRESS, name="ingress-2", environment=HEARD)
    async with open_doors(stack, template, directory, instances=(*LISTENED_TO, second)) as doors:
        run = await run_load(
            chaos_doors(doors),
            directory,
            seed=-7,
            attack=lambda run: answered(run.journal, ANSWERS),
            pressure=Pressure(burst=5 * BATCH_SIZE, burst_interval_s=1.0, sequences=2),
            is_heard=True,
        )
        await asyncio.to_thread(doors.system.stop)
        yield run


@pytest.fixture
async def copy(finished: Run, stack: Stack) -> AsyncIterator[Run]:
    """The same run with books of its own."""
    url = await create_database(stack, urlsplit(finished.doors.database_url).path[1:])
    yield replace(finished, doors=replace(finished.doors, database_url=url))
    await drop_database(stack, url)


@pytest.fixture
async def books(copy: Run) -> AsyncIterator[Connection]:
    """A connection to the copied books that may break them."""
    connection = await connect(copy.doors.database_url, name="test")
    # The tables guard themselves; corruption comes from outside of these guards.
    await connection.execute("ALTER TABLE entries DISABLE TRIGGER entries_append_only")
    await connection.execute("GRANT UPDATE, DELETE ON entries TO CURRENT_USER")
    yield connection
    await connection.close()
