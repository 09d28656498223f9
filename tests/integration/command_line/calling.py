"""Calling the command as a user does: a process of its own, judged by code, output and errors."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tests.conftest import Doors

ROOT: Final = Path(__file__).parents[3]
BOUND_S: Final = 60.0
CLOSED_PORT: Final = 1
"""Nothing listens there: it is reserved, and needs root."""


@dataclass(frozen=True)
class Called:
    """What a call came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as a JSON document."""
        return orjson.loads(self.out)


def environment_of(directory: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a user's environment without any setting but these, in a directory of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "ACKLEDGER_DIRECTORY": str(directory),
        **(variables or {}),
    }


async def started(
    *arguments: str, directory: Path, variables: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start a call and return it with its output as pipes."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        *arguments,
        cwd=directory.parent,
        env=environment_of(directory, variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> Called:
    """Return what a started call came to."""
    async with asyncio.timeout(BOUND_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Called(process.returncode, out.decode(), err.decode())


async def ackledger(
    *arguments: str, directory: Path, variables: Mapping[str, str] | None = None
) -> Called:
    """Call the command and wait for its end. No call may show a traceback."""
    called = await ended(await started(*arguments, directory=directory, variables=variables))
    assert "Traceback" not in called.err, called.err
    return called


class Terminal:
    """A user's terminal that knows the servers and the key of a running system."""

    def __init__(self, doors: Doors, directory: Path) -> None:
        self._directory = directory
        self._variables = {
            "DATABASE_URL": doors.database_url,
            "AMQP_URL": doors.amqp_url,
            "ACKLEDGER_URL": doors.system.http_url,
            "ACKLEDGER_API_KEY": doors.system.api_key,
        }

    async def call(self, *arguments: str, **variables: str) -> Called:
        """Call the command."""
        return await ackledger(
            *arguments, directory=self._directory, variables={**self._variables, **variables}
        )

    async def deposit(self, wallet_id: str, amount: str, *arguments: str) -> Called:
        """Submit a deposit in USD."""
        return await self.call(
            *("submit", "--type", "deposit", "--destination", wallet_id),
            *("--amount", amount, "--currency", "USD", *arguments),
        )
