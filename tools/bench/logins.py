"""What people who log in cost those who submit: p99 of a transaction beside waiting logins.

A system with so many accounts takes transfers in an open loop, each timed from its planned moment
to COMPLETED: in turns alone, and beside so many programs that log in without an end, each with an
account and an address of its own, each waiting as long as a 503 asks for.
Run: `.venv/bin/python -m tools.bench.logins --rounds 5`.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import aiohttp
import argon2
import orjson
import uvloop
from yarl import URL

from ackledger.client.publishing import quiet_libraries
from cli.output import quiet_logs
from ingress.people.passwords import MEMORY_KIB, PARALLELISM, TIME_COST
from runtime.postgres.queries import load_queries
from tools.bench.cases.latency import requests_of
from tools.bench.draining import await_posted
from tools.bench.ground import PATIENT, Crew, Field, fresh_field, without_settings
from tools.bench.laying import make_wallets
from tools.bench.open_loop import OpenLoop, poisson_moments
from tools.bench.usage import CpuMeter
from tools.signing_keys import make_signing_keys
from tools.stack import StackMode, StackOptions, start_stack
from tools.system import CLIENT

DIRECTORY: Final = Path(".local/logins").absolute()
WALLETS: Final = 1_000
RATE_PER_S: Final = 200
SECONDS: Final = 12.0
WARM_UP_S: Final = 2.0
CONNECTIONS: Final = 64
PASSWORD: Final = "correct horse battery staple bench"  # noqa: S105  # of accounts made here
_OK: Final = 200


async def _log_in_for_ever(url: str, programs: int) -> None:
    """Be so many programs that log in; says at the end how often each status came."""
    statuses: Counter[int] = Counter()
    connector = aiohttp.TCPConnector(limit=programs)
    async with aiohttp.ClientSession(url, connector=connector) as session:

        async def log_in(number: int) -> None:
            body = {"email": f"bench-{number}@example.com", "password": PASSWORD}
            address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
            headers = {"X-Forwarded-For": address}
            while True:
                async with session.post("/v1/auth/login", json=body, headers=headers) as answer:
                    await answer.read()
                statuses[answer.status] += 1
                if answer.status != _OK:
                    await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))

        async with asyncio.TaskGroup() as group:
            for number in range(1, programs + 1):
                group.create_task(log_in(number))
            # Closed by whoever started this process.
            await asyncio.to_thread(sys.stdin.buffer.read)
            sys.stdout.buffer.write(orjson.dumps({str(one): n for one, n in statuses.items()}))
            sys.stdout.flush()
            os._exit(0)


@asynccontextmanager
async def _logging_in(url: str, programs: int) -> AsyncIterator[dict[str, int]]:
    """Have programs log in from a process of their own; its counts are there at the end."""
    counts: dict[str, int] = {}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.bench.logins", "--programs", str(programs), "--url", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield counts
    finally:
        out, _ = await process.communicate(b"")
        counts.update(orjson.loads(out or b"{}"))


async def _load(field: Field, wallets: Sequence[UUID], seed: int) -> dict[str, float]:
    url = URL(field.system.http_url)
    moments = list(poisson_moments(RATE_PER_S, SECONDS, seed=seed))
    loop = OpenLoop(
        host=url.host or "",
        port=url.port or 0,
        request_of=requests_of(field, wallets, seed),
        moments=moments,
        warm_up_s=WARM_UP_S,
    )
    meter = CpuMeter(field.cpu_pids)
    report = await loop.run(connections=CONNECTIONS)
    return {**report.figures(), **meter.figures(len(moments))}


async def _measure(field: Field, rounds: int, accounts: int, programs: int) -> None:
    found: dict[str, list[dict[str, float]]] = {"alone": [], "beside logins": []}
    counted: Counter[str] = Counter()
    sql = load_queries("tools.bench")
    hasher = argon2.PasswordHasher(TIME_COST, MEMORY_KIB, PARALLELISM)
    async with field.ground.books() as connection:
        wallets = (await make_wallets(connection, rich=WALLETS, poor=0)).rich
        await connection.execute(sql["lay_users"], accounts, hasher.hash(PASSWORD))
        await connection.execute(sql["settle_wallets"])
        for number in range(rounds):
            found["alone"].append(await _load(field, wallets, 2 * number))
            async with _logging_in(field.system.http_url, programs) as counts:
                found["beside logins"].append(await _load(field, wallets, 2 * number + 1))
            counted.update(counts)
            await await_posted(connection)
    for name, samples in found.items():
        figures = ", ".join(
            f"{key} {statistics.median(one[key] for one in samples):,.2f}" for key in samples[0]
        )
        _say(f"{name}: {figures}")
    for key in ("p50_ms", "p99_ms"):
        pairs = zip(found["beside logins"], found["alone"], strict=True)
        ratios = [mine[key] / other[key] for mine, other in pairs]
        _say(
            f"{key} beside ÷ alone: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
    _say(f"answers to logins by status: {dict(counted)}")


async def _run(rounds: int, accounts: int, programs: int) -> None:
    settings = {
        **PATIENT,
        "ACKLEDGER_RATE_LIMITS": "login=none anonymous=none authenticated=none",
        "ACKLEDGER_TRUSTED_PROXIES": "127.0.0.1",
    }
    options = StackOptions(
        directory=DIRECTORY / "stack",
        mode=StackMode.LOCAL,
        upstream_users=(CLIENT,),
        environment=dict(os.environ),
    )
    crew = Crew(DIRECTORY / "system", without_settings(os.environ), processors=1)
    with start_stack(options) as stack:
        people = {**settings, **make_signing_keys(stack)}
        async with fresh_field(stack, crew, settings=people) as field:
            await _measure(field, rounds, accounts, programs)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Measure on private servers, or be the programs that log in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--url", help="only log in there, until standard input ends")
    wanted = parser.parse_args()
    quiet_libraries()
    quiet_logs()
    if wanted.url:
        uvloop.run(_log_in_for_ever(wanted.url, wanted.programs))
        return
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    uvloop.run(_run(wanted.rounds, wanted.accounts, wanted.programs))


if __name__ == "__main__":
    main()
