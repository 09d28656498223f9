"""Programs of others, as they run beside a system: their environment, their bound, their output."""

import asyncio
import sys
from pathlib import Path
from typing import Final

from tests.conftest import Doors

SAMPLES: Final = Path(__file__).parents[3] / "docs" / "samples"
_BOUND_S: Final = 60


async def output_of(doors: Doors, *command: str | Path, **environment: str) -> str:
    """Run a program that reaches the system by its environment alone; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "ACKLEDGER_URL": doors.system.http_url,
            "ACKLEDGER_API_KEY": doors.system.api_key,
            "ACKLEDGER_UPSTREAM_AMQP_URL": doors.upstream.url,
            **environment,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_BOUND_S):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()
