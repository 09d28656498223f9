"""The circumstances of a run: the machine, the versions, the settings, the date, the command."""

import os
import platform
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

from runtime.postgres.pool import connect
from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.ground import PATIENT
from tools.bench.usage import MB, busy_share

_PACKAGES: Final = (
    "ackledger",
    "aio-pika",
    "aiohttp",
    "aiormq",
    "asyncpg",
    "celery",
    "faststream",
    "psycopg",
    "sqlalchemy",
    "uvloop",
)
_LOOK_S: Final = 2.0
_WRITES: Final = 100


async def circumstances(bench: Bench, *, command: str) -> dict[str, Any]:
    """Return what a reader needs to know to measure the same; looks at the idle machine first."""
    return {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "is_quick": bench.options.is_quick,
        "runs": bench.options.runs,
        "machine": {
            "processor": _processor(),
            "cores": psutil.cpu_count(),
            "memory_mb": round(psutil.virtual_memory().total / MB),
            "kernel": platform.release(),
            "busy_before": round(busy_share(_LOOK_S), 2),
            "synchronous_write_ms": round(synchronous_write_ms(bench.directory), 2),
        },
        "versions": _versions(bench),
        "deployment": {"ingress": 1, "processor": bench.options.processors, "reconciler": 1},
        "settings_of_laid_backlogs": PATIENT,
        "postgres_settings": await _postgres_settings(bench),
    }


def synchronous_write_ms(directory: Path) -> float:
    """Return how long the disk takes to promise 4 KiB, the median of _WRITES.

    A transaction waits for three such promises, one after the other: its row, its message and its
    posting.
    """
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(_WRITES):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _versions(bench: Bench) -> dict[str, str]:
    found = {
        "Python": platform.python_version(),
        "PostgreSQL": bench.stack.postgres.version,
        "RabbitMQ": bench.stack.rabbitmq.version,
        "Redis": bench.stack.redis.version,
    }
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    if (wrk := _wrk()) is not None:
        found["wrk"] = wrk
    return found


def _wrk() -> str | None:
    try:
        # It has no exit code for success here.
        said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    return said.split()[1] if len(said.split()) > 1 else None


async def _postgres_settings(bench: Bench) -> dict[str, str]:
    connection = await connect(bench.stack.postgres.url, name="bench")
    try:
        rows = await connection.fetch(load_queries("tools.bench")["read_settings"])
    finally:
        await connection.close()
    return {row["name"]: row["value"] for row in rows}
