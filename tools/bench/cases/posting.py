"""Over HTTP: end to end at saturation, and how fast submissions are accepted."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from cli.dependencies import Connection
from runtime.postgres.queries import load_queries
from tools.bench import wrk
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import await_posted
from tools.bench.ground import Field
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter

CONNECTIONS: Final = (64, 100, 200)
BATCH: Final = 500
BATCH_CONNECTIONS: Final = 8
"""Each carries 500 transfers: more would only wait in the ingress."""
_SINGLE_CONNECTIONS: Final = 100

Script = Callable[[Sequence[UUID], str, int], str]


def _singles(wallets: Sequence[UUID], api_key: str, seed: int) -> str:
    return wrk.posting_script(wallets, api_key, seed=seed)


def _batches(wallets: Sequence[UUID], api_key: str, seed: int) -> str:
    return wrk.batch_script(wallets, api_key, size=BATCH, seed=seed)


async def _load(
    bench: Bench,
    field: Field,
    connection: Connection,
    script: Script,
    *,
    connections: int,
    seconds: float,
    transfers: int,
) -> Figures:
    """Run wrk; `transfers` is how many one request carries."""
    sql = load_queries("tools.bench")
    wallets = await bench.wallets(connection)
    await connection.execute(sql["settle_wallets"])
    text = script(wallets.rich, field.system.api_key, bench.next_seed())
    meter = CpuMeter(field.cpu_pids)
    began: datetime = await connection.fetchval(sql["read_clock"])
    report = await wrk.run(field.system.http_url, text, connections=connections, seconds=seconds)
    ended: datetime = await connection.fetchval(sql["read_clock"])
    cpu = meter.figures(report.requests * transfers)
    steady = began + timedelta(seconds=bench.sizes.warm_up_s)
    completed: int = await connection.fetchval(sql["count_completed"], steady, ended)
    return {
        "accepted_per_s": report.requests_per_s * transfers,
        "completed_per_s": completed / (ended - steady).total_seconds(),
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "failed_requests": float(report.failed),
        "load_generator_cores": report.cores,
        **cpu,
    }


def _end_to_end(connections: int) -> Measure:
    name = names.over_http(connections)

    async def measure(bench: Bench) -> dict[str, Figures]:
        async with bench.open_field() as field, field.ground.books() as connection:
            figures = await _load(
                bench,
                field,
                connection,
                _singles,
                connections=connections,
                seconds=bench.sizes.seconds,
                transfers=1,
            )
            figures["backlog_after"] = float(await await_posted(connection))
            await bench.prove(connection, f"{names.END_TO_END}, {name}")
        return {name: figures}

    return measure


END_TO_END: Final = Interleaved(
    name=names.END_TO_END,
    summary="single POSTs until COMPLETED, wrk on the same cores, everything running",
    arms=[Arm(names.over_http(count), _end_to_end(count), wrk.missing) for count in CONNECTIONS],
)


def _submitting(
    name: str, script: Script, *, connections: int, transfers: int, is_gated: bool
) -> Measure:
    async def measure(bench: Bench) -> dict[str, Figures]:
        fields = bench.gated_field() if is_gated else bench.open_field(is_patient=True)
        async with fields as field, field.ground.books() as connection:
            figures = await _load(
                bench,
                field,
                connection,
                script,
                connections=connections,
                seconds=bench.sizes.submit_seconds,
                transfers=transfers,
            )
            await field.gate.open()
            figures["backlog_after"] = float(await await_posted(connection))
            await bench.prove(connection, f"{names.SUBMIT}, {name}")
        return {name: figures}

    return measure


def _arm(name: str, script: Script, *, is_gated: bool) -> Arm:
    is_batch = script is _batches
    measure = _submitting(
        name,
        script,
        connections=BATCH_CONNECTIONS if is_batch else _SINGLE_CONNECTIONS,
        transfers=BATCH if is_batch else 1,
        is_gated=is_gated,
    )
    return Arm(name, measure, wrk.missing)


SUBMIT: Final = Interleaved(
    name=names.SUBMIT,
    summary="transfers accepted (committed, then 202): in batches of 500, and one by one",
    arms=[
        _arm(names.BATCH_OF_500, _batches, is_gated=False),
        _arm(names.BATCH_OF_500_ALONE, _batches, is_gated=True),
        _arm(names.SINGLE_ALONE, _singles, is_gated=True),
    ],
)
