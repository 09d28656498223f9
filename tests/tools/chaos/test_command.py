"""A short chaos run with a fixed seed: every promise is kept through a handful of faults.

The fast HTTP path and small batches: the code that runs where there is load.

`make chaos` runs longer, on any seed, with every fault there is.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli.launching import with_our_code
from tests.tools.stack.starting import processes_of

_SECONDS = 40
_BOUND_S = 240

# Quick to strike and to recover from, and together at every hop.
_FAULTS = (
    "processor-killed-in-a-batch",
    "postgres-killed",
    "link-confirms-lost:ingress-2-rabbitmq",
    # It declares the topology anew when it ends, the log of events included.
    "transactions-unroutable",
)
_SHAPE = ("--http", "fast", "--partitions", "1", "--batch-size", "16", "--rate", "40")
# Beside other tests all takes its time; how soon what was struck recovers is measured elsewhere.
_PATIENCE = ("--bounds-scale", "5")


async def _run(
    directory: Path, *options: str, environment: dict[str, str]
) -> tuple[int | None, dict[str, Any], str]:
    """Run the command; return its exit code, its report, and what it said."""
    report = directory.with_suffix(".json")
    command = [sys.executable, "-m", "cli", "chaos", "--directory", str(directory)]
    process = await asyncio.create_subprocess_exec(
        *command,
        *options,
        "--report",
        str(report),
        env=with_our_code(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_BOUND_S):
        output, _ = await process.communicate()
    found = orjson.loads(report.read_bytes()) if report.exists() else {}
    return process.returncode, found, output.decode()


@pytest.fixture
def environment() -> dict[str, str]:
    """A terminal's environment."""
    return dict(os.environ)


async def test_every_promise_is_kept_through_a_short_chaos_run(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    directory = tmp_path / "chaos"
    options = ("--seed", "5", "--seconds", str(_SECONDS), *_SHAPE, "--clients", "6", *_PATIENCE)

    code, report, output = await _run(
        directory, *options, "--faults", ",".join(_FAULTS), environment=environment
    )

    struck = {name.partition(":")[0] for name in _FAULTS}
    assert {fault["fault"] for fault in report["faults"]} == struck, output
    assert [fault for fault in report["faults"] if not fault["is_well"]] == []
    assert report["breaches"] == []
    assert report["counts"]["full_batches"] > 10
    assert report["promises"]["transfer.accepted"] > 100
    assert report["promises"]["transfer.confirmed"] > 100
    assert (code, report["is_well"]) == (0, True), output
    assert not directory.exists()
    assert processes_of(directory) == []
