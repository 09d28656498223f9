"""GET status: reads that share a query, beside the same ingress with one query for each."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from cli.dependencies import Connection
from runtime.postgres.queries import load_queries
from tools.bench import wrk
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import await_ended
from tools.bench.failing import BenchFailedError
from tools.bench.ground import Field
from tools.bench.laying import Kind, Pattern, lay
from tools.bench.programs import running_program
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter
from tools.children import READY_BOUND_S, answers_ready
from tools.stack.ports import HOST, choose_ports

CONNECTIONS: Final = 100
_PROGRAM: Final = "ungathered-ingress"
_POLL_S: Final = 0.05


def _measuring(name: str) -> Measure:
    async def measure(bench: Bench) -> dict[str, Figures]:
        async with bench.gated_field() as field, field.ground.books() as connection:
            ids = await _completed(bench, field, connection)
            if name == names.GATHERED:
                pids = {"ingress": field.system.pid("ingress")}
                figures = await _load(bench, field, field.system.http_url, ids, pids)
            else:
                async with _ungathered(bench, field) as (url, pid):
                    figures = await _load(bench, field, url, ids, {"ingress": pid})
            await bench.prove(connection, f"{names.STATUS}, {name}")
        return {name: figures}

    return measure


async def _completed(bench: Bench, field: Field, connection: Connection) -> Sequence[UUID]:
    """Post some transactions, and return their ids."""
    wallets = await bench.wallets(connection)
    transfers = bench.transfers(wallets, Pattern.UNIFORM, bench.sizes.readable)
    await lay(field.ground, connection, Kind.RECORDED, transfers)
    await field.gate.open()
    await await_ended(field, connection, transfers)
    sql = load_queries("tools.bench")
    rows = await connection.fetch(sql["list_completed"], bench.sizes.readable)
    return [row["id"] for row in rows]


async def _load(
    bench: Bench, field: Field, url: str, ids: Sequence[UUID], pids: dict[str, int | None]
) -> Figures:
    script = wrk.reading_script(ids, field.system.api_key, seed=bench.next_seed())
    meter = CpuMeter({**pids, **field.ground.server_pids})
    report = await wrk.run(url, script, connections=CONNECTIONS, seconds=bench.sizes.seconds)
    return {
        "requests_per_s": report.requests_per_s,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "failed_requests": float(report.failed),
        "load_generator_cores": report.cores,
        **meter.figures(report.requests),
    }


@asynccontextmanager
async def _ungathered(bench: Bench, field: Field) -> AsyncIterator[tuple[str, int]]:
    """Run the same ingress on the same ledger, with one query for each read."""
    ports = choose_ports(["http", "status"], previous={})
    environment = {
        **bench.environment,
        **field.ground.stack.urls,
        "DATABASE_URL": field.ground.database_url,
        "AMQP_URL": field.ground.amqp_url,
        "ACKLEDGER_HTTP_PORT": str(ports["http"]),
        "ACKLEDGER_STATUS_PORT": str(ports["status"]),
    }
    url = f"http://{HOST}:{ports['http']}"
    with running_program(
        _PROGRAM,
        ("-m", "tools.bench.rivals.ungathered_ingress"),
        directory=bench.directory,
        environment=environment,
    ) as program:
        deadline = time.monotonic() + READY_BOUND_S
        while not await asyncio.to_thread(answers_ready, f"{url}/readyz"):
            if program.poll() is not None or time.monotonic() > deadline:
                raise BenchFailedError(f"{_PROGRAM} is not ready; see its log")
            await asyncio.sleep(_POLL_S)
        yield url, program.pid


CASE: Final = Interleaved(
    name=names.STATUS,
    summary="GET /v1/transactions/{id}, gathered and with one query per request",
    arms=[
        Arm(names.GATHERED, _measuring(names.GATHERED), wrk.missing),
        Arm(
            names.ONE_QUERY_EACH,
            _measuring(names.ONE_QUERY_EACH),
            wrk.missing,
        ),
    ],
)
