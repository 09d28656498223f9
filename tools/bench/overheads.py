"""What a part of the product costs a transaction over HTTP: metrics, tracing, or rules.

Transfers from many clients at once, in turns with systems that differ in that part alone; the CPU
time of each process and server is divided by the transfers. The first kind of a case is what the
others are compared with, pair by pair: what a machine does beside it falls on both.
Run: `.venv/bin/python -m tools.bench.overheads rules --rounds 5 --transactions 10000`.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from ackledger.client.publishing import quiet_libraries
from cli.dependencies import Connection
from cli.output import quiet_logs
from cli.rules import add_rule, switch_rule
from tools.bench.ground import LOG_KEPT, PATIENT, Crew, Field, fresh_field, without_settings
from tools.bench.laying import Pattern, make_wallets, plan_transfers
from tools.bench.screened_posting import RULES
from tools.bench.submitting import submit_all
from tools.bench.usage import CpuMeter
from tools.stack import Stack, StackMode, StackOptions, start_stack
from tools.system import CLIENT

DIRECTORY: Final = Path(".local/overheads").absolute()
WALLETS: Final = 1_000
WARMING: Final = 1_000
OURS: Final = ("ingress", "processor")
SPANS_LEFT_S: Final = 1.5
"""The last spans leave within a second."""
RULES_READ_S: Final = 6.0
"""A change of the rules is in force five seconds later."""
SCRAPES: Final = 20
SCRAPE_EVERY_S: Final = 15
"""As deploy/prometheus has it."""
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
_HERE: Final = Path(__file__).parent


async def _enable_rules(connection: Connection) -> None:
    for rule in RULES:
        await add_rule(connection, rule, actor="bench")
        await switch_rule(connection, rule.name, is_enabled=True, actor="bench")
    await asyncio.sleep(RULES_READ_S)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the systems of a case: its settings, and what else makes it what it is."""

    settings: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Connection], Awaitable[None]] | None = None


CASES: Final[Mapping[str, Mapping[str, Kind]]] = {
    # Python imports sitecustomize by itself where the folder is on its path: in both kinds, so that
    # nothing but the metrics differs. The product has no switch.
    "metrics": {
        "without metrics": Kind({"PYTHONPATH": str(_HERE / "without_metrics")}),
        "with metrics": Kind({"PYTHONPATH": str(_HERE / "with_metrics")}),
    },
    "tracing": {
        "no receiver": Kind(LOG_KEPT),
        "none kept": Kind({**LOG_KEPT, "ACKLEDGER_TRACES_RATIO": "0.000001"}),
        "1 % kept": Kind({**LOG_KEPT, "ACKLEDGER_TRACES_RATIO": "0.01"}),
        "all kept": Kind({**LOG_KEPT, "ACKLEDGER_TRACES_RATIO": "1"}),
    },
    "rules": {"no rule": Kind(), "five rules": Kind(prepare=_enable_rules)},
}


class Receiver(BaseHTTPRequestHandler):
    """Reads spans, and drops them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a batch."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _receiver_of_spans() -> Iterator[str]:
    """Give the address of a thread of this program that takes spans."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    server.shutdown()


async def _scrape(field: Field) -> None:
    """Read the metrics of each process so many times, as Prometheus does."""
    urls = [field.system.status_urls[name] for name in OURS]
    async with aiohttp.ClientSession(headers={"Accept": OPENMETRICS}) as session:
        for url in urls * SCRAPES:
            async with session.get(f"{url}/metrics") as answer:
                await answer.read()


async def _measure(
    stack: Stack, kind: Kind, count: int, *, spans_url: str, seed: int
) -> dict[str, float]:
    """Return the CPU microseconds a transfer, by process, and those of a scrape."""
    crew = Crew(DIRECTORY / "system", without_settings(os.environ), processors=1)
    is_traced = "ACKLEDGER_TRACES_RATIO" in kind.settings
    traced = {"ACKLEDGER_TRACES_URL": spans_url} if is_traced else {}
    async with (
        fresh_field(stack, crew, settings={**PATIENT, **kind.settings, **traced}) as field,
        field.ground.books() as connection,
    ):
        wallets = await make_wallets(connection, rich=WALLETS, poor=0)
        if kind.prepare is not None:
            await kind.prepare(connection)
        transfers = list(plan_transfers(wallets, Pattern.UNIFORM, count + WARMING, seed=seed))
        await submit_all(field, connection, transfers[:WARMING])
        ours = {name: field.system.pid(name) for name in OURS}
        meter = CpuMeter({**ours, **field.ground.server_pids})
        await submit_all(field, connection, transfers[WARMING:])
        if is_traced:
            await asyncio.sleep(SPANS_LEFT_S)
        figures = meter.figures(count)
        figures["all_us"] = sum(figures.values())
        figures["ours_us"] = sum(figures[f"{name}_us"] for name in OURS)
        scraping = CpuMeter(ours)
        await _scrape(field)
        return {**figures, **{f"scrape_{one}": us for one, us in scraping.figures(SCRAPES).items()}}


Found = Mapping[str, Sequence[Mapping[str, float]]]


def _report(found: Found) -> None:
    base, *others = found
    for name in found[base][0]:
        if name.startswith("scrape_"):
            cost = statistics.median(one[name] for one in found[others[0]])
            share = cost / 1e6 / SCRAPE_EVERY_S
            _say(f"{name}: {cost:,.0f}, every {SCRAPE_EVERY_S} s {share:.2%} of a core")
            continue
        plain = [one[name] for one in found[base]]
        _say(f"{name}: {base} {statistics.median(plain):,.0f}")
        for other in others:
            mine = [one[name] for one in found[other]]
            ratios = [ours / theirs for ours, theirs in zip(mine, plain, strict=True) if theirs]
            _say(
                f"    {other} {statistics.median(mine):,.0f}: median of pairs "
                f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Measure on private servers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transactions", type=int, default=10_000)
    wanted = parser.parse_args()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    quiet_libraries()
    quiet_logs()
    options = StackOptions(
        directory=DIRECTORY,
        mode=StackMode.LOCAL,
        upstream_users=(CLIENT,),
        environment=dict(os.environ),
    )
    kinds = CASES[wanted.case]
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in kinds}
    with start_stack(options) as stack, _receiver_of_spans() as spans_url:
        for number in range(wanted.rounds):
            names = list(kinds)
            # In another order each round.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                measured = _measure(
                    stack, kinds[name], wanted.transactions, spans_url=spans_url, seed=number
                )
                found[name].append(uvloop.run(measured))
    _report(found)


if __name__ == "__main__":
    main()
