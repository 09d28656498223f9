"""Processes learn what was registered, and nothing begins before the first time."""

import asyncio
import signal
import socket
import sys
from uuid import uuid4

import aiohttp
import pytest

from cli.assets import add_asset
from contracts.money import UnknownCurrencyError, currency_refusal, format_minor
from runtime.postgres.assets import AssetWatch
from runtime.postgres.migrate import load_migrations, migrate
from runtime.postgres.pool import connect
from runtime.service.status_server import DependencyState
from tests.conftest import Connection
from tests.house.source_tree import ROOT
from tests.integration.processor.books import open_pool
from tests.support import eventually
from tools.stack import Stack

pytestmark = pytest.mark.long


def _new_code() -> str:
    """A code that no other test of this process has."""
    return f"T{uuid4().hex[:9].upper()}"


class _Probe:
    """A loop that says whether it began."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()

    async def run(self) -> None:
        self.has_begun.set()
        await asyncio.Event().wait()


async def _is_up() -> DependencyState:
    return DependencyState(is_up=True)


async def test_an_asset_is_written_at_once_and_taken_when_all_know_it(
    database_url: str, database: Connection
) -> None:
    code = _new_code()
    async with open_pool(database_url) as pool:
        watch = AssetWatch(pool)
        await add_asset(database, code, 8, actor="test")
        await watch.run_once()
        first = currency_refusal(code)

        async def is_taken() -> bool:
            await watch.run_once()
            return currency_refusal(code) is None

        assert format_minor(1, code) == "0.00000001"
        assert first == f"'{code}' was registered a moment ago and is accepted within seconds"
        await eventually(is_taken, what="requests may name it")


async def test_what_needs_the_assets_begins_after_the_first_read(
    empty_database_url: str, database_url: str
) -> None:
    async with open_pool(empty_database_url) as empty, open_pool(database_url) as migrated:
        for pool, is_known in ((empty, False), (migrated, True)):
            watch, probe = AssetWatch(pool), _Probe()
            loops = [asyncio.ensure_future(one.run()) for one in (watch, watch.before(probe))]
            try:
                async with asyncio.timeout(0.5):
                    await probe.has_begun.wait()
            except TimeoutError:
                pass
            state = await watch.checked(_is_up)()
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

            assert probe.has_begun.is_set() == is_known
            assert state.is_up == is_known
            assert is_known or "ackledger migrate" in (state.detail or "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("role", ["ingress", "processor"])
@pytest.mark.parametrize("is_migrated", [False, True])
async def test_a_process_waits_for_the_assets_and_says_so(
    stack: Stack, empty_database_url: str, vhost_url: str, role: str, *, is_migrated: bool
) -> None:
    port = _free_port()
    variables = {
        "DATABASE_URL": empty_database_url,
        "AMQP_URL": vhost_url,
        "REDIS_URL": stack.redis.url,
        "ACKLEDGER_HTTP_PORT": "0",
        "ACKLEDGER_STATUS_PORT": str(port),
    }
    connection = await connect(empty_database_url, name="test")
    # The release before this one.
    await migrate(connection, [one for one in load_migrations() if "assets" not in one.version])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", role), cwd=ROOT, env=variables, stderr=asyncio.subprocess.PIPE
    )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def database_state() -> dict[str, str] | None:
            try:
                async with session.get("/readyz") as answer:
                    found: dict[str, str] = (await answer.json())["dependencies"]["database"]
                    return found
            except aiohttp.ClientConnectionError:
                return None

        async def is_up() -> bool:
            return (await database_state() or {}).get("state") == "up"

        first = await eventually(database_state, what="the status port")
        if is_migrated:
            await migrate(connection, load_migrations())
            await eventually(is_up, what="readiness")
    await connection.close()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        _, errors = await process.communicate()

    assert first["detail"] == "assets not read; run: ackledger migrate"
    assert process.returncode == 0, errors


def test_a_code_of_nobody_is_unknown() -> None:
    with pytest.raises(UnknownCurrencyError):
        format_minor(1, _new_code())
