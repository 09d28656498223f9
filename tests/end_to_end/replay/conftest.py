"""The public bank file, and replays of files through the doors of the running system."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from cli.clients.addresses import Addresses
from cli.replay.options import ReplayOptions, mapping_of
from cli.replay.session import run_replay
from cli.replay.tally import Tally
from runtime.postgres.pool import connect
from tests.conftest import Doors
from verification.checks import VerificationReport
from verification.verify import verify

_DIRECTORY_VARIABLE = "ACKLEDGER_TEST_DATA"
_BESIDE_THE_CHECKOUT = Path(__file__).parents[4] / "shared" / "data"

_COMMAND_BOUND_S = 180

Replay = Callable[..., Awaitable[Tally]]
Verified = Callable[[], Awaitable[VerificationReport]]


@pytest.fixture(scope="session")
def bank_file() -> Path:
    """The first transactions of the PKDD'99 bank data set, or a skip that says how to get it in."""
    directory = Path(os.environ.get(_DIRECTORY_VARIABLE) or _BESIDE_THE_CHECKOUT)
    path = directory / "berka-transactions.csv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {directory}; name its folder in {_DIRECTORY_VARIABLE}")
    return path


@pytest.fixture(scope="module")
def addresses(doors: Doors) -> Addresses:
    """Both doors, for one submitter: the API key's client has the broker user's name."""
    return Addresses(
        http_url=doors.system.http_url,
        api_key=doors.system.api_key,
        upstream_amqp_url=doors.upstream.url,
    )


@pytest.fixture(scope="module")
def replay(addresses: Addresses) -> Replay:
    """A replay as the command runs it, without printing."""

    async def run(
        file: Path,
        via: Literal["http", "amqp"] = "http",
        *,
        mapping: Any = None,
        tally: Tally | None = None,
        **options: Any,
    ) -> Tally:
        tally = tally or Tally()
        asked = ReplayOptions(
            file=str(file),
            via=via,
            mapping=mapping_of(**(mapping or {})),
            **{"addresses": addresses, "waits": True, "wait_timeout_s": 60.0, **options},
        )
        await run_replay(asked, tally)
        return tally

    return run


@pytest.fixture(scope="module")
def verified(doors: Doors) -> Verified:
    """The proof of the books as they are now."""

    async def run() -> VerificationReport:
        connection = await connect(doors.database_url, name="test-verify")
        try:
            return await verify(connection, pending_max_s=60)
        finally:
            await connection.close()

    return run


async def replay_file(
    *arguments: str, addresses: Addresses, given: bytes | None = None
) -> tuple[int, str, str]:
    """Run the command itself; return its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "replay-file",
        *arguments,
        env={
            **os.environ,
            "ACKLEDGER_URL": addresses.http_url or "",
            "ACKLEDGER_API_KEY": addresses.api_key or "",
            "ACKLEDGER_UPSTREAM_AMQP_URL": addresses.upstream_amqp_url or "",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_COMMAND_BOUND_S):
        output, errors = await process.communicate(given)
    return process.returncode or 0, output.decode(), errors.decode()
