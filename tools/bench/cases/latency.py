"""Latency: from the intended send to the answer that says COMPLETED, in an open loop."""

import random
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID, uuid4

from yarl import URL

from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import await_posted
from tools.bench.ground import Field
from tools.bench.open_loop import OpenLoop, poisson_moments
from tools.bench.options import FULL
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter

CONNECTIONS_LEAST: Final = 64
_CONNECTIONS_MOST: Final = 512
_HELD_S: Final = 0.1
"""Connections for answers of this length at the wanted rate; beyond it requests wait for one."""


def requests_of(field: Field, wallets: Sequence[UUID], seed: int) -> Callable[[], bytes]:
    """Return what makes requests that are answered once their transaction is final."""
    rng = random.Random(seed)
    url = URL(field.system.http_url)
    head = (
        "POST /v1/transactions HTTP/1.1\r\n"
        f"Host: {url.host}:{url.port}\r\n"
        f"Authorization: Bearer {field.system.api_key}\r\n"
        "Content-Type: application/json\r\n"
        "Prefer: wait=10\r\n"
    )
    run = uuid4().hex
    sent = 0

    def request() -> bytes:
        nonlocal sent
        sent += 1
        source, destination = rng.sample(range(len(wallets)), 2)
        body = (
            f'{{"type":"transfer","source_wallet_id":"{wallets[source]}",'
            f'"destination_wallet_id":"{wallets[destination]}","amount":"1.00","currency":"USD"}}'
        )
        headers = f"Idempotency-Key: {run}-{sent}\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"{head}{headers}{body}".encode()

    return request


def _measuring(position: int) -> Measure:
    async def measure(bench: Bench) -> dict[str, Figures]:
        rate = bench.sizes.latency_rates[position]
        name = names.at_rate(rate)
        async with bench.open_field() as field, field.ground.books() as connection:
            wallets = await bench.wallets(connection)
            await connection.execute(load_queries("tools.bench")["settle_wallets"])
            figures = await _load(bench, field, wallets.rich, rate)
            await await_posted(connection)
            await bench.prove(connection, f"{names.LATENCY}, {name}")
        return {name: figures}

    return measure


async def _load(bench: Bench, field: Field, wallets: Sequence[UUID], rate: int) -> Figures:
    url, sizes = URL(field.system.http_url), bench.sizes
    moments = list(poisson_moments(rate, sizes.seconds, seed=bench.next_seed()))
    loop = OpenLoop(
        host=url.host or "",
        port=url.port or 0,
        request_of=requests_of(field, wallets, bench.next_seed()),
        moments=moments,
        warm_up_s=sizes.warm_up_s,
    )
    meter = CpuMeter(field.cpu_pids)
    wanted = round(rate * _HELD_S)
    report = await loop.run(connections=min(max(wanted, CONNECTIONS_LEAST), _CONNECTIONS_MOST))
    return {**report.figures(), **meter.figures(len(moments))}


CASE: Final = Interleaved(
    name=names.LATENCY,
    summary="POST to COMPLETED as a client sees it, at fixed rates that wait for nobody",
    arms=[
        Arm(f"rate {position + 1}", _measuring(position))
        for position in range(len(FULL.latency_rates))
    ],
)
