"""The watch of a running system: what it did a moment ago, and how its processes are."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from tests.conftest import Doors
from tests.support import deposit

pytestmark = pytest.mark.long

_BOUND_S = 60


async def watch(*options: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "watch", *options),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_BOUND_S):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


def addresses(doors: Doors) -> list[str]:
    return [
        part
        for name, url in doors.system.status_urls.items()
        for part in ("--status", f"{name}={url}")
    ]


async def _sampled(doors: Doors, *arguments: str, **environment: str) -> dict[str, Any]:
    """Return one sample, taken while deposits are submitted; it tells of these."""
    wallet = await doors.api.create_wallet()
    sample = asyncio.create_task(watch(*arguments, "--once", "--json", **environment))
    while not sample.done():
        await doors.api.submit(deposit(wallet, "1.00"))
    code, output, errors = await sample
    assert code == 0, errors
    reading: dict[str, Any] = json.loads(output)
    assert reading["accepted_per_s"] > 0
    assert reading["completed_per_s"] > 0
    return reading


async def test_one_sample_tells_what_was_posted_meanwhile(doors: Doors) -> None:
    reading = await _sampled(doors, *addresses(doors), "--interval", "4")

    assert reading["request_p50_ms"] > 0
    assert {one["status"] for one in reading["processes"].values()} == {"ready"}
    assert set(reading["processes"]) == {"ingress", "processor", "reconciler"}
    assert (reading["leaders"], reading["open_circuits"]) == (["reconciler"], [])
    assert reading["end_to_end_p99_ms"] > 0
    assert set(reading["queues"]) == {"ackledger.transactions.0"}


async def test_the_database_alone_tells_what_flows_and_what_waits(doors: Doors) -> None:
    url = doors.database_url
    reading = await _sampled(doors, "--database", "--interval", "3", DATABASE_URL=url)

    assert reading["open_dead_letters"] == 0
    assert (reading["leaders"], reading["request_p50_ms"]) == (None, None)


async def test_a_url_alone_is_enough(doors: Doors) -> None:
    url = doors.system.status_urls["processor"]
    code, output, errors = await watch("--status", url, "--once", "--interval", "0.1")

    assert code == 0, errors
    assert url.removeprefix("http://") in output


async def test_a_dead_process_is_shown_beside_the_living(doors: Doors) -> None:
    code, output, _ = await watch(
        *addresses(doors), "--status", "gone=http://127.0.0.1:9", "--once", "--interval", "0.1"
    )

    assert code == 0
    assert "silent" in output
    assert output.count("ready") == len(doors.system.status_urls)


async def test_no_process_at_all_is_unreachable() -> None:
    code, _, errors = await watch("--status", "gone=http://127.0.0.1:9", "--once")

    assert code == 3
    assert "no process answers" in errors
    assert "Traceback" not in errors
