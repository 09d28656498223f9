"""Real handshakes with the three servers: a port that merely accepts proves nothing."""

import asyncio
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tools.stack.ports import HOST

T = TypeVar("T")

_CONNECT_S = 0.2
_HANDSHAKE_S = 3.0


def accepts(port: int) -> bool:
    """Whether anything accepts on the loopback port: the cheap question before a handshake."""
    try:
        with socket.create_connection((HOST, port), timeout=_CONNECT_S):
            return True
    except OSError:
        return False


def postgres_answers(url: str) -> bool:
    """Whether a client can log in to the database."""
    return postgres_refusal(url) is None


def postgres_refusal(url: str) -> Exception | None:
    """What keeps a client from logging in: an OSError, TimeoutError or asyncpg error."""
    import asyncpg

    async def connect() -> Exception | None:
        try:
            connection = await asyncpg.connect(url, timeout=_HANDSHAKE_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return error
        await connection.close(timeout=_HANDSHAKE_S)
        return None

    return run_apart(connect())


def amqp_answers(url: str) -> bool:
    """Whether a client can log in to the broker and open the virtual host."""
    import aiormq

    async def connect() -> bool:
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                connection = await aiormq.connect(url)
                await connection.close()
        except (OSError, TimeoutError, aiormq.AMQPError):
            return False
        return True

    return run_apart(connect())


def redis_answers(url: str) -> bool:
    """Whether a client can log in and gets its PONG."""
    import redis

    try:
        with redis.Redis.from_url(
            url, socket_timeout=_HANDSHAKE_S, socket_connect_timeout=_HANDSHAKE_S
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def answers(service: str, url: str) -> bool:
    """Whether the server behind a URL serves us; for servers that are not ours."""
    checks = {
        "postgres": postgres_answers,
        "rabbitmq": amqp_answers,
        "redis": redis_answers,
    }
    return checks[service](url)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also when the caller's thread has a running event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
