"""What metrics cost: CPU of ingress and processor a transaction, with metrics and without.

Transfers over HTTP from many clients at once, in turns with processes as they are and with
processes whose metrics do nothing (`without_metrics`). Reading the metrics, which goes by time and
not by transactions, is measured by itself.
Run: `.venv/bin/python -m tools.bench.metering [ROUNDS] [TRANSACTIONS]`.
"""

import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from ackledger.client.publishing import quiet_libraries
from tools.bench.ground import PATIENT, Crew, Field, fresh_field, without_settings
from tools.bench.laying import Pattern, make_wallets, plan_transfers
from tools.bench.submitting import submit_all
from tools.bench.usage import CpuMeter
from tools.stack import Stack, StackMode, StackOptions, start_stack
from tools.system import CLIENT

DIRECTORY: Final = Path(".local/metering").absolute()
WITHOUT: Final = {"PYTHONPATH": str(Path(__file__).parent / "without_metrics")}
WALLETS: Final = 1_000
WARMING: Final = 1_000
SCRAPES: Final = 20
SCRAPE_EVERY_S: Final = 15
"""As deploy/prometheus has it."""
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
PROCESSES: Final = ("ingress", "processor")


async def _scrape(field: Field) -> None:
    """Read the metrics of each process so many times, as Prometheus does."""
    urls = [field.system.status_urls[name] for name in PROCESSES]
    async with aiohttp.ClientSession(headers={"Accept": OPENMETRICS}) as session:
        for url in urls * SCRAPES:
            async with session.get(f"{url}/metrics") as answer:
                await answer.read()


async def _measure(stack: Stack, count: int, *, seed: int, is_metered: bool) -> Mapping[str, float]:
    crew = Crew(DIRECTORY / "system", without_settings(os.environ), processors=1)
    settings = {**PATIENT, **({} if is_metered else WITHOUT)}
    async with (
        fresh_field(stack, crew, settings=settings) as field,
        field.ground.books() as connection,
    ):
        wallets = await make_wallets(connection, rich=WALLETS, poor=0)
        transfers = list(plan_transfers(wallets, Pattern.UNIFORM, count + WARMING, seed=seed))
        await submit_all(field, connection, transfers[:WARMING])
        meter = CpuMeter({name: field.system.pid(name) for name in PROCESSES})
        await submit_all(field, connection, transfers[WARMING:])
        figures = meter.figures(count)
        figures["both_us"] = sum(figures.values())
        scraping = CpuMeter({name: field.system.pid(name) for name in PROCESSES})
        await _scrape(field)
        scrapes = {f"scrape_{name}": us for name, us in scraping.figures(SCRAPES).items()}
        return {**figures, **scrapes}


def _report(found: Mapping[bool, Sequence[Mapping[str, float]]]) -> None:
    for name in found[True][0]:
        if name.startswith("scrape_"):
            cost = statistics.median(one[name] for one in found[True])
            share = cost / 1e6 / SCRAPE_EVERY_S
            sys.stdout.write(
                f"{name}: {cost:,.0f}, every {SCRAPE_EVERY_S} s {share:.2%} of a core\n"
            )
            continue
        with_metrics, without = ([one[name] for one in found[key]] for key in (True, False))
        shares = [mine / other - 1 for mine, other in zip(with_metrics, without, strict=True)]
        middle = statistics.median(with_metrics) / statistics.median(without) - 1
        sys.stdout.write(
            f"{name}: {statistics.median(with_metrics):,.0f} with metrics, "
            f"{statistics.median(without):,.0f} without: {middle:+.1%} of medians, "
            f"median of pairs {statistics.median(shares):+.1%} "
            f"({min(shares):+.1%} to {max(shares):+.1%})\n"
        )


def main() -> None:
    """Measure on private servers."""
    arguments = [int(one) for one in sys.argv[1:]]
    rounds, count = (*arguments, *(5, 10_000)[len(arguments) :])
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    quiet_libraries()
    options = StackOptions(
        directory=DIRECTORY,
        mode=StackMode.LOCAL,
        upstream_users=(CLIENT,),
        environment=dict(os.environ),
    )
    found: dict[bool, list[Mapping[str, float]]] = {True: [], False: []}
    with start_stack(options) as stack:
        for number in range(rounds):
            # Now this one first, now the other: what a machine does beside it falls on both.
            for is_metered in (True, False) if number % 2 else (False, True):
                measured = _measure(stack, count, seed=number, is_metered=is_metered)
                found[is_metered].append(uvloop.run(measured))
    _report(found)


if __name__ == "__main__":
    main()
