"""Proofs: how long `ackledger verify` and `ackledger export` take on a long, sealed book."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cli.launching import with_our_code
from reconciler.schedule import LOOKUP_SESSION
from reconciler.sealing import Sealer
from runtime.postgres.pool import create_pool
from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.growth import lengthen
from tools.bench.failing import BenchFailedError
from tools.bench.ground import Ground
from tools.bench.laying import make_wallets
from tools.bench.options import BenchOptions
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter, peak_memory_mb
from verification.seal_keys import SealKeys

_ENTRIES: Final = 2
"""Of each transaction of the history."""
_RATE: Final = "transactions_per_s"
_STATEMENT_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05
"""How often memory is looked at; it is the most so far, and so misses what the last moments add."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """One book for all, since nothing changes it; the commands take turns."""

    name: str = names.PROOFS
    summary: str = "verify with its chain of seals, and export, of a million transactions"

    def missing(self) -> dict[str, str]:
        """Nothing is."""
        return {}

    def samples(self, options: BenchOptions) -> int:
        """Return how many samples it takes."""
        return options.runs * len(names.PROVING)

    async def run(self, bench: Bench) -> None:
        """Lay and seal the book, then run every command in turns."""
        transactions, wallets = bench.sizes.proven
        keys = bench.directory / "seal-keys"
        async with bench.bare_ground() as ground:
            await ground.migrate({})
            async with ground.books() as connection:
                await make_wallets(connection, rich=wallets, poor=0)
                await lengthen(bench, connection, transactions, wallets)
                await _seal(ground, SealKeys(keys))
                await connection.execute(load_queries("tools.bench")["settle_tables"])
                await bench.prove(connection, names.PROOFS)
            for number in range(1, bench.options.runs + 1):
                for name in names.PROVING:
                    bench.watch.step(f"{names.PROOFS}, round {number}: {name}")
                    figures = await _measure(bench, ground, keys, name)
                    bench.note(names.PROOFS, name, figures)


async def _seal(ground: Ground, keys: SealKeys) -> None:
    keys.rotate(datetime.now(tz=UTC))
    pool = create_pool(
        ground.database_url,
        name="bench",
        size=1,
        statement_timeout_s=_STATEMENT_TIMEOUT_S,
        session=LOOKUP_SESSION,
    )
    async with pool:
        sealer = Sealer(pool, keys=keys, interval_s=1, lag_s=0, patience_s=0)
        while (await sealer.run_once()).sealed:
            pass


async def _measure(bench: Bench, ground: Ground, keys: Path, name: str) -> Figures:
    """Run a command as its users do; it must end well."""
    transactions, _ = bench.sizes.proven
    environment = {
        **bench.environment,
        "DATABASE_URL": ground.database_url,
        "ACKLEDGER_SEAL_KEYS": str(keys),
    }
    meter = CpuMeter({"postgres": ground.stack.postgres.pid})
    ran = await asyncio.to_thread(_run, name.split(), environment)
    rate_per_s = transactions / ran.seconds
    is_verify = name == names.VERIFY
    return {
        **({"entries_per_s": _ENTRIES * rate_per_s} if is_verify else {_RATE: rate_per_s}),
        "command_us": ran.cpu_seconds / transactions * 1e6,
        **meter.figures(transactions),
        "memory_mb": ran.peak_mb,
    }


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def _run(arguments: Sequence[str], environment: dict[str, str]) -> _Ran:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env=with_our_code(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak_mb = 0.0
    try:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak_mb = max(peak_mb, peak_memory_mb(process.pid))
            time.sleep(_POLL_S)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise BenchFailedError(f"{' '.join(arguments)} ended with {process.returncode}")
    usage = ended[2]
    return _Ran(time.monotonic() - began, usage.ru_utime + usage.ru_stime, peak_mb)


CASE: Final = Proofs()
