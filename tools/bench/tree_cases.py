"""What only a comparison with another tree measures: reads, events to a queue, what a system takes.

Written for trees of any age: it uses what all of them have (tools/bench/trees.py).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import aio_pika

from contracts import topology
from tools.bench import wrk
from tools.bench.bench import Bench
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import await_ended, drain
from tools.bench.ground import Field
from tools.bench.laying import Kind, Pattern, lay
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter, memory_mb

CONNECTIONS: Final = 100
MANY_CONNECTIONS: Final = 2_000
IDLE_S: Final = 20.0
EVENTS: Final = "bench-events"
EVENTS_KEPT: Final = 1_000
"""In the queue that is bound to all events: the oldest make room."""
_READING: Final = """
local ids = {{{ids}}}
local headers = {{ ["Authorization"] = "Bearer {api_key}" }}
function request()
  return wrk.format("GET", "/v1/{path}" .. ids[math.random(1, #ids)] .. "{rest}", headers)
end
"""


def _reading(path: str, rest: str, ids: Sequence[UUID], api_key: str) -> str:
    listed = ",".join(f'"{one}"' for one in ids)
    return _READING.format(path=path, rest=rest, ids=listed, api_key=api_key)


READINGS: Final = {
    "GET wallet": ("wallets/", ""),
    "GET entries": ("wallets/", "/entries?limit=20"),
}


async def _read(bench: Bench) -> dict[str, Figures]:
    """Read wallets with some twenty entries each, and those, over CONNECTIONS."""
    found: dict[str, Figures] = {}
    async with bench.gated_field() as field, field.ground.books() as connection:
        wallets = await bench.wallets(connection)
        transfers = bench.transfers(wallets, Pattern.UNIFORM, bench.count_of(Kind.RECORDED))
        await lay(field.ground, connection, Kind.RECORDED, transfers)
        await field.gate.open()
        await await_ended(field, connection, transfers)
        for name, (path, rest) in READINGS.items():
            script = _reading(path, rest, wallets.rich, field.system.api_key)
            pids = {"ingress": field.system.pid("ingress"), **field.ground.server_pids}
            meter = CpuMeter(pids)
            report = await wrk.run(
                field.system.http_url,
                script,
                connections=CONNECTIONS,
                seconds=bench.sizes.seconds,
            )
            found[name] = {
                "requests_per_s": report.requests_per_s,
                "p50_ms": report.p50_ms,
                "p99_ms": report.p99_ms,
                **meter.figures(report.requests),
            }
    return found


async def _drain_to_queues(bench: Bench) -> dict[str, Figures]:
    """Drain batch messages while one queue is bound to all events, single ones and in bundles."""
    # Older trees have no bundles: what their subscribers can have are single events.
    bundles = getattr(topology, "EVENT_BUNDLES", topology.EVENTS_EXCHANGE)
    return {
        **await _drain_to(bench, topology.EVENTS_EXCHANGE, "a queue bound to all events"),
        **await _drain_to(bench, bundles, "a queue that may take them in bundles"),
    }


async def _drain_to(bench: Bench, exchange: str, queue_name: str) -> dict[str, Figures]:
    name = f"batch messages, {queue_name}"
    async with bench.gated_field() as field, field.ground.books() as connection:
        broker = await aio_pika.connect(field.ground.amqp_url)
        async with broker:
            channel = await broker.channel()
            queue = await channel.declare_queue(
                EVENTS, durable=True, arguments={"x-max-length": EVENTS_KEPT}
            )
            await queue.bind(exchange, "#")
        wallets = await bench.wallets(connection)
        transfers = bench.transfers(wallets, Pattern.UNIFORM, bench.count_of(Kind.RECORDED))
        figures = await drain(field, connection, Kind.RECORDED, transfers)
        await bench.prove(connection, name)
    return {name: figures}


def _books_bytes(field: Field) -> int:
    """Return what all databases of the server take, without its log."""
    # A server's working directory is its data directory.
    books = Path(f"/proc/{field.ground.stack.postgres.pid}/cwd/base")
    return sum(one.stat().st_size for one in books.rglob("*") if one.is_file())


async def _take(bench: Bench) -> dict[str, Figures]:
    """Measure bytes on disk a transfer, memory under many connections, and CPU while idle."""
    found: dict[str, Figures] = {}
    async with bench.gated_field() as field, field.ground.books() as connection:
        wallets = await bench.wallets(connection)
        before = _books_bytes(field)
        transfers = bench.transfers(wallets, Pattern.UNIFORM, bench.count_of(Kind.RECORDED))
        await lay(field.ground, connection, Kind.RECORDED, transfers)
        await field.gate.open()
        await await_ended(field, connection, transfers)
        more = _books_bytes(field) - before
        found["books"] = {"bytes_each": more / len(transfers)}
        script = _reading("wallets/", "", wallets.rich, field.system.api_key)
        await wrk.run(
            field.system.http_url,
            script,
            connections=MANY_CONNECTIONS,
            seconds=bench.sizes.seconds,
        )
        pid = field.system.pid("ingress") or 0
        found["ingress, 2,000 connections"] = {"memory_mb": memory_mb(pid)}
    async with bench.open_field() as field:
        reconciler = {"reconciler": field.system.pid("reconciler")}
        meter = CpuMeter({**field.cpu_pids, **reconciler})
        await asyncio.sleep(IDLE_S)
        taken = meter.figures(IDLE_S)
        each = {f"{name.removesuffix('_us')}_cores": one / 1e6 for name, one in taken.items()}
        found["idle"] = {"cores": sum(each.values()), **each}
    return found


def _alone(name: str, measure: Measure, missing: Callable[[], str | None]) -> Interleaved:
    return Interleaved(name=name, summary=name, arms=[Arm(name, measure, missing)])


READS: Final = _alone("reads", _read, wrk.missing)
BOUND: Final = _alone("bound", _drain_to_queues, lambda: None)
TAKES: Final = _alone("takes", _take, wrk.missing)
