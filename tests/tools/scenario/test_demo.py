"""The demonstration: from nothing to proven books, and nothing left behind."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.tools.stack.starting import processes_of

_BOUND_S = 180


async def demo(directory: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the command without any server's address; return exit code, summary and words."""
    given = {"DATABASE_URL", "AMQP_URL", "REDIS_URL"}
    environment = {name: text for name, text in os.environ.items() if name not in given}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "demo", "--json", *options),
        env={**environment, "ACKLEDGER_DIRECTORY": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_BOUND_S):
        output, errors = await process.communicate()
    words = errors.decode()
    assert output, words
    return process.returncode or 0, json.loads(output), words


async def test_the_demonstration_ends_as_its_model_says_and_leaves_nothing(tmp_path: Path) -> None:
    code, summary, words = await demo(tmp_path, "--transactions", "800", "--seed", "11")

    assert code == 0, words
    assert summary["is_well"]
    assert summary["verify"]["clean"]
    assert summary["wrong_balances"] == []
    assert [line for line in summary["lines"] if line["expected"] != line["actual"]] == []
    assert processes_of(tmp_path) == []
