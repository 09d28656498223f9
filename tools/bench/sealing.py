"""What seals cost: CPU of PostgreSQL's one backend and of the reconciler's code, a transaction.

Transfers among 10,000 wallets are recorded and posted on a private PostgreSQL, as the ingress and
the processor do it. Then they are sealed from the beginning again and again by the reconciler's
code inside this process, and each time the chain is checked as the leading reconciler checks it.
Run it by `.venv/bin/python -m tools.bench.sealing [ROUNDS] [--transactions N] [--step N]`, in turns
with another checkout to compare two.
"""

import argparse
import asyncio
import gc
import os
import random
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

from cli.dependencies import Connection
from cli.output import quiet_logs
from processor.deciding import WalletCache
from processor.poster import Poster
from reconciler.schedule import LOOKUP_SESSION
from reconciler.sealing import SealCheck, Sealer
from runtime.postgres.migrate import load_migrations, migrate
from runtime.postgres.pool import KEYED_SESSION, Pool, connect, create_pool
from runtime.postgres.queries import load_queries
from runtime.screening.watch import CurrentRules
from runtime.service.lifecycle import GARBAGE_THRESHOLDS
from tools.bench.laying import Transfer, Wallets, in_groups, make_wallets, record
from tools.bench.usage import cpu_nanoseconds
from tools.stack import Stack, StackMode, StackOptions, start_stack

DIRECTORY: Final = Path(".local/sealing").absolute()
WALLETS: Final = 10_000
BATCH: Final = 500
WARMING: Final = 1


async def _lay(stack: Stack, connection: Connection, count: int) -> None:
    """Post transfers in batches, as a drain does."""
    wallets = await make_wallets(connection, rich=WALLETS, poor=0)
    transfers = _transfers(wallets, count)
    url = stack.postgres.url
    async with create_pool(
        url, name="bench", size=2, statement_timeout_s=60, session=KEYED_SESSION
    ) as pool:
        rules = CurrentRules()
        await rules.read(connection)
        poster = Poster(pool, wallet_cache=WalletCache(), rules=rules)
        for group in in_groups(transfers, BATCH):
            ids = await record(connection, group, submitter="shop")
            await poster.post(ids, loaded=await poster.load(ids))
    await connection.execute(load_queries("tools.bench")["settle_tables"])


def _transfers(wallets: Wallets, count: int) -> list[Transfer]:
    chance = random.Random(count)
    return [Transfer(str(uuid4()), *chance.sample(wallets.rich, 2)) for _ in range(count)]


def reconciler_pool(url: str) -> Pool:
    """Return one connection with the session that sealing has."""
    return create_pool(
        url, name="bench-reconciler", size=1, statement_timeout_s=60, session=LOOKUP_SESSION
    )


async def seal_all(sealer: Sealer) -> None:
    """Seal all that there is."""
    while not (await sealer.run_once()).is_caught_up:
        pass


def _sealer(pool: Pool, step: int) -> Sealer:
    return Sealer(pool, keys=None, interval_s=1, seal_max=step, lag_s=0, patience_s=0)


async def _check(pool: Pool) -> None:
    """Recompute the whole chain."""
    check = SealCheck(pool, keys=None, interval_s=1)
    while await check.run_once():
        pass


async def _timed(
    pid: int, count: int, work: Callable[[], Awaitable[object]]
) -> tuple[float, float]:
    """Return the microseconds a transaction of the backend and of this process."""
    gc.collect()
    backend_ns, own_ns = cpu_nanoseconds(pid), time.process_time_ns()
    await work()
    took = cpu_nanoseconds(pid) - backend_ns, time.process_time_ns() - own_ns
    return took[0] / count / 1e3, took[1] / count / 1e3


async def _measure(stack: Stack, wanted: argparse.Namespace) -> None:
    url, count = stack.postgres.url, wanted.transactions
    sql = load_queries("tools.bench")
    connection = await connect(url, name="bench")
    await migrate(connection, load_migrations())
    await _lay(stack, connection, count)
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    async with reconciler_pool(url) as pool:
        pid = await pool.fetchval(sql["read_own_backend"])
        for _ in range(wanted.rounds + WARMING):
            await connection.execute(sql["forget_seals"])
            found["seal"].append(
                await _timed(pid, count, lambda: seal_all(_sealer(pool, wanted.step)))
            )
            found["check"].append(await _timed(pid, count, lambda: _check(pool)))
    sealed = await connection.fetchval(sql["count_sealed"])
    await connection.close()
    if sealed != count:
        raise AssertionError(f"{sealed} of {count} are sealed")
    for name, samples in found.items():
        counted = samples[WARMING:]
        parts = [
            f"{part} {statistics.median(one[at] for one in counted):.2f} "
            f"({min(one[at] for one in counted):.2f}-{max(one[at] for one in counted):.2f})"
            for at, part in enumerate(("postgres_us", "python_us"))
        ]
        sys.stdout.write(f"{name}: {' '.join(parts)}\n")


def main() -> None:
    """Measure on a private server, and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--transactions", type=int, default=50_000)
    parser.add_argument("--step", type=int, default=5_000, help="transactions a seal")
    wanted = parser.parse_args()
    quiet_logs()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    options = StackOptions(directory=DIRECTORY, mode=StackMode.LOCAL, environment=dict(os.environ))
    with start_stack(options) as stack:
        asyncio.run(_measure(stack, wanted))


if __name__ == "__main__":
    main()
