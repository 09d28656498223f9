"""What rules cost posting: CPU of the processor's code and of PostgreSQL, in turns with none.

Batches of 500 recorded transfers among 10,000 wallets, each of which pays three others, are posted
inside this process on a private PostgreSQL: without a rule, and under five (velocity by wallet,
owner and client, amount bounds, first destination), none of which refuses anything.
Run it by `.venv/bin/python -m tools.bench.screened_posting [ROUNDS]`; with `--plain` without rules
alone, to compare two checkouts.
"""

import asyncio
import gc
import os
import random
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

from cli.output import quiet_logs
from cli.rules import RuleOrder, add_rule, switch_rule
from ledger.words import RuleAction, RuleKind, RuleSubject
from processor.deciding import WalletCache
from processor.poster import Poster
from runtime.postgres.migrate import load_migrations, migrate
from runtime.postgres.pool import KEYED_SESSION, connect, create_pool
from runtime.postgres.queries import load_queries
from runtime.screening.watch import CurrentRules
from runtime.service.lifecycle import GARBAGE_THRESHOLDS
from tools.bench.laying import Transfer, Wallets, in_groups, make_wallets, record
from tools.bench.usage import CpuMeter
from tools.stack import Stack, StackMode, StackOptions, start_stack

DIRECTORY: Final = Path(".local/screened-posting").absolute()
WALLETS: Final = 10_000
DESTINATIONS: Final = 3
TRANSFERS: Final = 20_000
BATCH: Final = 500
WARMING: Final = 2
_MANY: Final = 10**9
_AMOUNT: Final = ("USD=1000000.00",)

RULES: Final = (
    *(
        RuleOrder(
            name=f"by-{by}",
            kind=RuleKind.VELOCITY,
            action=RuleAction.REVIEW,
            by=by,
            window="1h",
            count_max=_MANY,
        )
        for by in (RuleSubject.WALLET, RuleSubject.OWNER, RuleSubject.CLIENT)
    ),
    RuleOrder(name="amount", kind=RuleKind.AMOUNT, action=RuleAction.REFUSE, most=_AMOUNT),
    RuleOrder(name="first", kind=RuleKind.FIRST_DESTINATION, action=RuleAction.FLAG),
)


def _transfers(wallets: Wallets, *, seed: int) -> list[Transfer]:
    chance = random.Random(seed)
    rich = wallets.rich
    made = []
    for _ in range(TRANSFERS):
        place = chance.randrange(WALLETS)
        other = (place + 1 + 7 * chance.randrange(DESTINATIONS)) % WALLETS
        made.append(Transfer(str(uuid4()), rich[place], rich[other]))
    return made


async def _switch(stack: Stack, rules: CurrentRules, *, is_ruled: bool) -> None:
    connection = await connect(stack.postgres.url, name="bench")
    for rule in RULES:
        await switch_rule(connection, rule.name, is_enabled=is_ruled, actor="bench")
    await rules.read(connection)
    await connection.close()


async def _sample(stack: Stack, poster: Poster, wallets: Wallets, *, seed: int) -> dict[str, float]:
    """Post TRANSFERS; CPU in microseconds a transfer, whoever else uses the servers."""
    connection = await connect(stack.postgres.url, name="bench")
    ids = []
    for group in in_groups(_transfers(wallets, seed=seed), BATCH):
        ids += await record(connection, group, submitter="shop")
    await connection.execute(load_queries("tools.bench")["settle_tables"])
    await connection.close()
    # As in a processor: what this program itself keeps is no garbage of it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    meter = CpuMeter({"postgres": stack.postgres.pid})
    # Of this process alone: the other servers are its children.
    began_s = time.process_time()
    for batch in in_groups(ids, BATCH):
        await _post(poster, batch)
    own_us = (time.process_time() - began_s) / len(ids) * 1e6
    return {"processor_us": own_us, **meter.figures(len(ids))}


async def _post(poster: Poster, batch: Sequence[object]) -> None:
    items = list(batch)
    result = await poster.post(items, loaded=await poster.load(items))  # type: ignore[arg-type]
    if len(result.posting.posted) != len(items):
        raise AssertionError("a rule or the ledger refused what it should not")


async def _measure(stack: Stack, rounds: int, *, is_plain: bool) -> None:
    connection = await connect(stack.postgres.url, name="bench")
    await migrate(connection, load_migrations())
    wallets = await make_wallets(connection, rich=WALLETS, poor=0)
    for rule in RULES:
        await add_rule(connection, rule, actor="bench")
    await connection.close()
    found: dict[bool, list[dict[str, float]]] = defaultdict(list)
    pool = create_pool(
        stack.postgres.url, name="bench", size=3, statement_timeout_s=60, session=KEYED_SESSION
    )
    async with pool:
        # A processor runs for days: what it remembers it has learnt in the turns that do not count.
        rules = CurrentRules()
        poster = Poster(pool, wallet_cache=WalletCache(), rules=rules)
        for seed in range(rounds + WARMING):
            for is_ruled in (False,) if is_plain else (False, True):
                await _switch(stack, rules, is_ruled=is_ruled)
                sample = await _sample(stack, poster, wallets, seed=seed)
                found[is_ruled].append(sample)
    for is_ruled, samples in found.items():
        figures = " ".join(
            f"{name}={statistics.median(one[name] for one in samples[WARMING:]):.1f}"
            for name in samples[0]
        )
        totals = [sum(one.values()) for one in samples[WARMING:]]
        sys.stdout.write(
            f"{'five rules' if is_ruled else 'no rule'}: {figures} "
            f"total={statistics.median(totals):.1f} ({min(totals):.1f}-{max(totals):.1f})\n"
        )


def main() -> None:
    """Measure on a private server, and print the medians."""
    quiet_logs()
    arguments = [one for one in sys.argv[1:] if one != "--plain"]
    rounds = int(arguments[0]) if arguments else 5
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    options = StackOptions(directory=DIRECTORY, mode=StackMode.LOCAL, environment=dict(os.environ))
    with start_stack(options) as stack:
        asyncio.run(_measure(stack, rounds, is_plain="--plain" in sys.argv))


if __name__ == "__main__":
    main()
