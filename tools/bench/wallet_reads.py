"""What reading a wallet costs this checkout: rate, latency and CPU of each process, in turns.

Readings of 10,000 wallets and of one, over 1 to 100 connections, alone and beside submissions. Run
it in two checkouts to compare them: `.venv/bin/python -m tools.bench.wallet_reads [ROUNDS]`
"""

import asyncio
import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from runtime.postgres.pool import connect
from tools.bench import wrk
from tools.bench.ground import without_settings
from tools.bench.laying import make_wallets
from tools.bench.usage import CpuMeter
from tools.stack import Stack, StackMode, StackOptions, start_stack
from tools.system import System

DIRECTORY: Final = Path(".local/wallet-reads").absolute()
WALLETS: Final = 10_000
SECONDS: Final = 5.0
POSTING_CONNECTIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Case:
    """How wallets are read."""

    connections: int
    wallets: int = WALLETS
    is_beside_posting: bool = False

    def __str__(self) -> str:
        """Return it in a few words."""
        beside = " beside submissions" if self.is_beside_posting else ""
        return f"{self.wallets} wallets, {self.connections} connections{beside}"


CASES: Final = (
    Case(1),
    Case(16),
    Case(100),
    Case(16, wallets=1),
    Case(100, is_beside_posting=True),
)


async def _sample(
    case: Case, system: System, stack: Stack, ids: Sequence[UUID], *, seed: int
) -> dict[str, float]:
    """Read for SECONDS; CPU in microseconds a reading, whoever else uses the servers."""
    url, key = system.http_url, system.api_key
    pids = {
        "ingress": system.pid("ingress"),
        "postgres": stack.postgres.pid,
        "redis": stack.redis.pid,
    }
    reading = wrk.wallet_script(ids[: case.wallets], key, seed=seed)
    posting = wrk.posting_script(ids, key, seed=seed)
    async with asyncio.TaskGroup() as group:
        if case.is_beside_posting:
            group.create_task(
                wrk.run(url, posting, connections=POSTING_CONNECTIONS, seconds=SECONDS)
            )
        meter = CpuMeter(pids)
        report = await wrk.run(url, reading, connections=case.connections, seconds=SECONDS)
        cpu = meter.figures(report.requests)
    return {
        "requests_per_s": report.requests_per_s,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        **cpu,
    }


async def _measure(system: System, stack: Stack, rounds: int) -> dict[Case, list[dict[str, float]]]:
    connection = await connect(stack.postgres.url, name="bench")
    try:
        ids = (await make_wallets(connection, rich=WALLETS, poor=0)).rich
    finally:
        await connection.close()
    found: dict[Case, list[dict[str, float]]] = defaultdict(list)
    for seed in range(rounds):
        for case in CASES:
            found[case].append(await _sample(case, system, stack, ids, seed=seed))
    return found


def main() -> None:
    """Measure on a private system, and print the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    environment = without_settings(os.environ)
    options = StackOptions(directory=DIRECTORY, mode=StackMode.LOCAL, environment=environment)
    with start_stack(options) as stack:
        system = System(
            environment={**environment, **stack.urls},
            directory=DIRECTORY / "system",
            say=lambda _: None,
        )
        system.start()
        try:
            found = asyncio.run(_measure(system, stack, rounds))
        finally:
            system.stop()
    for case, samples in found.items():
        medians = {name: statistics.median(one[name] for one in samples) for name in samples[0]}
        figures = ", ".join(f"{name} {value:,.2f}" for name, value in medians.items())
        sys.stdout.write(f"{case}: {figures}\n")


if __name__ == "__main__":
    main()
