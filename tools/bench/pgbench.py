"""pgbench's own TPC-B on the same server: what PostgreSQL does with one commit a transaction."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Final

from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Measure
from tools.bench.failing import BenchFailedError
from tools.bench.ground import database_of
from tools.bench.result import Figures
from tools.stack import StackError, StackOptions
from tools.stack.postgres import find_postgres

DATABASE: Final = "ackledger_pgbench"
_TPS: Final = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
_THREADS: Final = 2
_MARGIN_S: Final = 60
_READY = "pgbench.ready"


def program(major: int | None = None) -> Path | None:
    """Return pgbench beside the server's own programs; None where it is not installed.

    `major`: of the server, where it is not the usual one.
    """
    try:
        found = find_postgres(StackOptions(postgres_major=major)) / "pgbench"
    except StackError:
        return None
    return found if found.exists() else None


def missing() -> str | None:
    """Return why it cannot run here."""
    return None if program() else "pgbench is not installed beside PostgreSQL"


def measuring(clients: int) -> Measure:
    """Return what takes a sample with so many clients."""

    async def measure(bench: Bench) -> dict[str, Figures]:
        url = database_of(bench.stack, DATABASE)
        await _prepare(bench, url)
        # Dropping a database forces a checkpoint, after which every page is logged whole once: the
        # rival shall not pay for our tidying.
        await _run(bench, url, clients, bench.sizes.pgbench_warm_up_s)
        per_s = await _run(bench, url, clients, bench.sizes.pgbench_s)
        return {f"{names.PGBENCH}, {clients} clients": {"transactions_per_s": per_s}}

    return measure


async def _prepare(bench: Bench, url: str) -> None:
    """Fill its tables once a run."""
    marker = bench.directory / _READY
    if marker.exists():
        return
    sql = load_queries("tools.bench")
    connection = await connect(bench.stack.postgres.url, name="bench")
    try:
        await connection.execute(sql["drop_pgbench"])
        await connection.execute(sql["create_pgbench"])
    finally:
        await connection.close()
    await _call(bench, "--initialize", "--quiet", f"--scale={bench.sizes.pgbench_scale}", url)
    marker.touch()


async def _run(bench: Bench, url: str, clients: int, seconds: int) -> float:
    output = await _call(
        bench,
        f"--client={clients}",
        f"--jobs={_THREADS}",
        f"--time={seconds}",
        "--protocol=prepared",
        url,
        bound_s=seconds + _MARGIN_S,
    )
    return parse_tps(output)


def parse_tps(output: str) -> float:
    """Return the transactions a second that pgbench reports, connecting left out."""
    found = _TPS.search(output)
    if found is None:
        raise BenchFailedError(f"pgbench reports no rate: {output[-300:]}")
    return float(found[1])


async def _call(bench: Bench, *arguments: str, bound_s: float = 600.0) -> str:
    pgbench = program(bench.options.postgres)
    if pgbench is None:
        raise BenchFailedError(missing() or "")
    return await asyncio.to_thread(_blocking, [str(pgbench), *arguments], bound_s)


def _blocking(command: list[str], bound_s: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=bound_s, check=True)
    except subprocess.CalledProcessError as error:
        raise BenchFailedError(f"pgbench failed: {error.stderr[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise BenchFailedError(f"pgbench takes longer than {bound_s:.0f} s") from error
    return done.stdout
