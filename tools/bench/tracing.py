"""What tracing costs: CPU of ingress and processor a transaction, by how many traces are kept.

Transfers over HTTP from many clients at once, with the log of events kept, so that each leaves five
spans and a part of its batch's two. In turns without a receiver, with one that keeps no trace that
begins here, a hundredth of them, and all. The receiver is a thread of this program that reads and
drops.
Run: `.venv/bin/python -m tools.bench.tracing [ROUNDS] [TRANSACTIONS]`.
"""

import asyncio
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from cli.clients.amqp import quiet_libraries
from runtime.watching.snapshot import take_snapshot
from tools.bench.ground import LOG_KEPT, PATIENT, Crew, Field, fresh_field, without_settings
from tools.bench.laying import Pattern, Transfer, make_wallets, plan_transfers
from tools.bench.usage import CpuMeter
from tools.stack import Stack, StackMode, StackOptions, start_stack
from tools.system import CLIENT

DIRECTORY: Final = Path(".local/tracing").absolute()
WALLETS: Final = 1_000
WARMING: Final = 1_000
AT_ONCE: Final = 64
ENDED_IN_S: Final = 120.0
RATIOS: Final = {"no receiver": None, "none kept": "0.000001", "1 % kept": "0.01", "all kept": "1"}


class Receiver(BaseHTTPRequestHandler):
    """Reads spans, and drops them."""

    protocol_version = "HTTP/1.1"
    octets = 0

    def do_POST(self) -> None:
        """Take a batch."""
        Receiver.octets += len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def _submit(field: Field, transfers: Sequence[Transfer]) -> None:
    """Submit transfers, so many at once, and return when all are posted."""
    waiting = iter(transfers)
    headers = {"Authorization": f"Bearer {field.system.api_key}"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(
        field.system.http_url, headers=headers, connector=connector
    ) as session:

        async def submit() -> None:
            for one in waiting:
                async with session.post("/v1/transactions", json=_body(one)) as answer:
                    answer.raise_for_status()

        before = await _posted(field, session)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(submit())
        async with asyncio.timeout(ENDED_IN_S):
            # Another process's counter: there is nothing to wait for but time.
            while await _posted(field, session) < before + len(transfers):  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def _posted(field: Field, session: aiohttp.ClientSession) -> float:
    snapshot = await take_snapshot(session, field.system.status_urls)
    return snapshot.total("ackledger_processor_transactions_total")


def _body(transfer: Transfer) -> Mapping[str, object]:
    return {name: value for name, value in transfer.to_json().items() if value is not None}


async def _measure(
    stack: Stack, ratio: str | None, url: str, count: int, *, seed: int
) -> Mapping[str, float]:
    traced = {} if ratio is None else {"ACKLEDGER_TRACES_URL": url, "ACKLEDGER_TRACES_RATIO": ratio}
    crew = Crew(DIRECTORY / "system", without_settings(os.environ), processors=1)
    settings = {**PATIENT, **LOG_KEPT, **traced}
    async with (
        fresh_field(stack, crew, settings=settings) as field,
        field.ground.books() as connection,
    ):
        wallets = await make_wallets(connection, rich=WALLETS, poor=0)
        transfers = list(plan_transfers(wallets, Pattern.UNIFORM, count + WARMING, seed=seed))
        await _submit(field, transfers[:WARMING])
        meter = CpuMeter({name: field.system.pid(name) for name in ("ingress", "processor")})
        began = time.monotonic()
        await _submit(field, transfers[WARMING:])
        # The last spans leave within a second.
        took = time.monotonic() - began
        await asyncio.sleep(1.5)
        return {**meter.figures(count), "transactions_per_s": count / took}


def _report(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    for name, samples in found.items():
        medians = {key: statistics.median(one[key] for one in samples) for key in samples[0]}
        figures = ", ".join(f"{key} {value:,.0f}" for key, value in medians.items())
        sys.stdout.write(f"{name}: {figures}\n")


def main() -> None:
    """Measure on private servers."""
    arguments = [int(one) for one in sys.argv[1:]]
    rounds, count = (*arguments, *(3, 10_000)[len(arguments) :])
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    quiet_libraries()
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{receiver.server_port}/v1/traces"
    options = StackOptions(
        directory=DIRECTORY,
        mode=StackMode.LOCAL,
        upstream_users=(CLIENT,),
        environment=dict(os.environ),
    )
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in RATIOS}
    with start_stack(options) as stack:
        for number in range(rounds):
            # In another order each round: what a machine does beside it falls on all alike.
            names = list(RATIOS)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                measured = _measure(stack, RATIOS[name], url, count, seed=number)
                found[name].append(uvloop.run(measured))
    _report(found)
    sys.stdout.write(f"received: {Receiver.octets:,} octets\n")
    receiver.shutdown()


if __name__ == "__main__":
    main()
