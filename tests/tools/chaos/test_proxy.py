"""The proxy does to real connections what it is told to, and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from runtime.postgres.pool import UNREACHABLE, connect
from tests.conftest import Connection
from tests.support import eventually
from tools.chaos.proxy import Proxy
from tools.stack import Stack


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[Proxy]:
    """A proxy to the run's PostgreSQL."""
    async with Proxy.to(stack.postgres.url) as opened:
        yield opened


@pytest.fixture
async def client(proxy: Proxy, database_url: str) -> AsyncIterator[Connection]:
    """A session with PostgreSQL that leads through the proxy."""
    connection = await connect(proxy.through(database_url), name="test")
    yield connection
    connection.terminate()


async def _answers(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT true"))


async def _is_waiting(task: "asyncio.Task[Any]") -> bool:
    done, _ = await asyncio.wait({task}, timeout=0.3)
    return not done


async def _assert_forwarded(proxy: Proxy, database_url: str) -> None:
    """Check that a new connection is made and answered."""
    connection = await connect(proxy.through(database_url), name="test")
    assert await _answers(connection)
    await connection.close()


async def test_large_answers_arrive_whole(client: Connection) -> None:
    text = await client.fetchval("SELECT repeat('0123456789', 1000000)")

    assert text == "0123456789" * 1_000_000


async def test_a_cut_ends_every_connection_and_new_ones_are_forwarded(
    proxy: Proxy, client: Connection, database_url: str
) -> None:
    proxy.cut()

    with pytest.raises(UNREACHABLE):
        await _answers(client)
    await _assert_forwarded(proxy, database_url)


async def test_while_it_refuses_nobody_connects(
    proxy: Proxy, client: Connection, database_url: str
) -> None:
    with proxy.refusing():
        with pytest.raises(UNREACHABLE):
            await connect(proxy.through(database_url), name="test")
        with pytest.raises(UNREACHABLE):
            await _answers(client)

    await _assert_forwarded(proxy, database_url)


async def test_what_waits_in_a_silent_proxy_arrives_afterwards(
    proxy: Proxy, client: Connection
) -> None:
    with proxy.silent():
        question = asyncio.create_task(_answers(client))
        assert await _is_waiting(question)

    assert await question


async def test_a_slow_proxy_delays_and_loses_nothing(proxy: Proxy, client: Connection) -> None:
    # What is being read already still comes in one piece.
    await _answers(client)
    began = time.monotonic()
    with proxy.slow(latency_s=0.05, chunk_bytes=1000):
        text = await client.fetchval("SELECT repeat('x', 5000)")

    assert text == "x" * 5000
    assert time.monotonic() - began >= 0.1


async def test_a_commit_is_done_although_its_answer_never_came_back(
    proxy: Proxy, client: Connection, database: Connection
) -> None:
    await database.execute("CREATE TABLE told (word text)")
    with proxy.trapped(b"COMMIT;") as trap:
        with pytest.raises(UNREACHABLE):
            async with client.transaction():
                await client.execute("INSERT INTO told VALUES ('done')")
        async with asyncio.timeout(5):
            await trap.sprung.wait()

    async def is_committed() -> bool:
        return bool(await database.fetchval("SELECT word = 'done' FROM told"))

    await eventually(is_committed, what="the commit is done")


async def test_only_one_connection_falls_into_a_trap(
    proxy: Proxy, client: Connection, database_url: str
) -> None:
    other = await connect(proxy.through(database_url), name="test")
    word = uuid4().hex
    with proxy.trapped(word.encode()):
        with pytest.raises(UNREACHABLE):
            await client.execute(f"SELECT '{word}'")
        assert await other.fetchval(f"SELECT '{word}'") == word
    await other.close()


async def test_swallowed_answers_are_lost_and_the_connection_with_them(
    proxy: Proxy, client: Connection, database: Connection
) -> None:
    await database.execute("CREATE TABLE told (word text)")
    with proxy.swallowing_answers():
        unanswered = asyncio.create_task(client.execute("INSERT INTO told VALUES ('said')"))

        async def is_written() -> bool:
            return bool(await database.fetchval("SELECT word = 'said' FROM told"))

        await eventually(is_written, what="the server has done it")
        assert not unanswered.done()

    with pytest.raises(UNREACHABLE):
        await unanswered


async def test_what_goes_into_a_black_hole_is_lost_both_ways_and_the_connection_with_it(
    proxy: Proxy, client: Connection, database: Connection
) -> None:
    await database.execute("CREATE TABLE told (word text)")
    with proxy.swallowing():
        unanswered = asyncio.create_task(client.execute("INSERT INTO told VALUES ('said')"))
        assert await _is_waiting(unanswered)

    with pytest.raises(UNREACHABLE):
        await unanswered
    assert await database.fetchval("SELECT count(*) FROM told") == 0


async def test_the_server_gives_a_half_open_connection_up_and_its_client_does_not_know(
    proxy: Proxy, client: Connection, database: Connection
) -> None:
    pid = await client.fetchval("SELECT pg_backend_pid()")
    with proxy.half_open():

        async def is_gone() -> bool:
            query = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
            return bool(await database.fetchval(query, pid))

        await eventually(is_gone, what="the server's side is gone")
        unanswered = asyncio.create_task(_answers(client))
        assert await _is_waiting(unanswered)

    with pytest.raises(UNREACHABLE):
        await unanswered


async def test_after_a_black_hole_new_connections_are_forwarded(
    proxy: Proxy, database_url: str
) -> None:
    with proxy.swallowing(), proxy.half_open():
        pass

    await _assert_forwarded(proxy, database_url)


async def test_a_closed_proxy_leaves_no_connection(database_url: str, stack: Stack) -> None:
    async with Proxy.to(stack.postgres.url) as proxy:
        connection = await connect(proxy.through(database_url), name="test")

    with pytest.raises(UNREACHABLE):
        await _answers(connection)
