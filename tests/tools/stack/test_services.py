"""Single servers: the quick ones, started, killed and started again."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis

from tests.tools.stack.starting import options
from tools.stack.postgres import PrivatePostgres, find_postgres
from tools.stack.valkey import PrivateRedis, find_valkey

NothingLeft = Callable[[Path], None]


@pytest.fixture
def postgres(directory: Path) -> PrivatePostgres:
    wanted = options(directory)
    return PrivatePostgres(
        folder=find_postgres(wanted), options=wanted, cancelled=threading.Event()
    )


@pytest.fixture
def cache(directory: Path) -> PrivateRedis:
    wanted = options(directory)
    return PrivateRedis(program=find_valkey(wanted), options=wanted, cancelled=threading.Event())


async def _execute(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_postgres_keeps_commits_port_and_url_over_a_kill(
    postgres: PrivatePostgres, directory: Path, nothing_left: NothingLeft
) -> None:
    postgres.start()
    url = postgres.url
    await _execute(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.kill()
    nothing_left(directory)
    assert not postgres.alive
    # The pid of the killed server now belongs to a living process that is not PostgreSQL.
    (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n")
    postgres.start()
    assert postgres.url == url
    assert await _execute(url, "SELECT answer FROM kept") == 42
    postgres.stop()
    nothing_left(directory)


async def test_postgres_is_durable_and_its_role_is_no_superuser(
    postgres: PrivatePostgres,
) -> None:
    half_made = postgres.home / "initdb"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    postgres.start()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await _execute(postgres.url, f"SHOW {setting}") == "on"
    assert await _execute(postgres.url, "SHOW listen_addresses") == "127.0.0.1"
    assert await _execute(postgres.url, "SHOW is_superuser") == "off"
    assert await _execute(postgres.superuser_url, "SHOW is_superuser") == "on"
    assert not half_made.exists()


async def test_a_wrong_password_is_refused(postgres: PrivatePostgres) -> None:
    postgres.start()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _execute(postgres.url.replace(postgres.endpoint.password("ackledger"), "x"), "")


def test_redis_pauses_resumes_and_comes_back_on_its_port(
    cache: PrivateRedis, directory: Path, nothing_left: NothingLeft
) -> None:
    cache.start()
    url, pid = cache.url, cache.pid
    with redis.Redis.from_url(url, socket_timeout=0.2) as client:
        cache.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        cache.resume()
        assert client.ping()
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "allkeys-lru"
    cache.pause()
    cache.stop()
    nothing_left(directory)
    cache.start()
    assert (cache.url, cache.pid == pid) == (url, False)


def test_starting_what_runs_changes_nothing(cache: PrivateRedis) -> None:
    cache.start()
    pid = cache.pid
    cache.start()
    assert cache.pid == pid


async def test_a_service_can_be_started_inside_an_event_loop(postgres: PrivatePostgres) -> None:
    assert asyncio.get_running_loop().is_running()
    postgres.start()
    assert postgres.answers()
