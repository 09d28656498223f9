"""What the processes themselves take: time to get ready, and memory."""

import asyncio
import time
from typing import Final

from cli.dependencies import Connection
from tools.bench import wrk
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved
from tools.bench.draining import await_ended
from tools.bench.ground import Field
from tools.bench.laying import Kind, Pattern, Wallets, lay
from tools.bench.result import Figures
from tools.bench.usage import memory_mb

PARTS: Final = 4
_CONNECTIONS: Final = 100
_LOADED: Final = ("ingress", "processor", "reconciler")


async def _start_up(bench: Bench) -> dict[str, Figures]:
    """Stop and start each process; ready is what its own /readyz says, asked 20 times a second."""
    found: dict[str, Figures] = {}
    async with bench.open_field() as field:
        for label in _LOADED:
            await asyncio.to_thread(field.system.halt, label)
            began = time.monotonic()
            await asyncio.to_thread(field.system.restart, label)
            found[label] = {"ready_s": time.monotonic() - began}
    return found


START_UP: Final = Interleaved(
    name=names.START_UP,
    summary="from the start of a process until it says that it is ready",
    arms=[Arm("each process", _start_up)],
)


async def _memory(bench: Bench) -> dict[str, Figures]:
    """Resident memory idle, after posting in four parts, and after a load over HTTP."""
    found: dict[str, Figures] = {}
    async with bench.gated_field() as field, field.ground.books() as connection:
        for label in _LOADED:
            found[f"{label}, idle"] = _now(field, label)
        wallets = await bench.wallets(connection)
        await _post_in_parts(bench, field, connection, wallets, found)
        if wrk.missing() is None:
            await _post_over_http(bench, field, wallets)
            found["ingress, after load over HTTP"] = _now(field, "ingress")
        found["reconciler, after all"] = _now(field, "reconciler")
        await bench.prove(connection, names.MEMORY)
    return found


async def _post_in_parts(
    bench: Bench,
    field: Field,
    connection: Connection,
    wallets: Wallets,
    found: dict[str, Figures],
) -> None:
    part = bench.sizes.memory // PARTS
    await field.gate.open()
    for number in range(1, PARTS + 1):
        bench.watch.step(f"{names.MEMORY}: {part * number:,} of {bench.sizes.memory:,}")
        transfers = bench.transfers(wallets, Pattern.UNIFORM, part)
        await lay(field.ground, connection, Kind.RECORDED, transfers)
        await await_ended(field, connection, transfers)
        label = f"{names.PROCESSOR_AFTER} {part * number:,} transactions"
        found[label] = _now(field, "processor")


async def _post_over_http(bench: Bench, field: Field, wallets: Wallets) -> None:
    script = wrk.posting_script(wallets.rich, field.system.api_key, seed=bench.next_seed())
    await wrk.run(
        field.system.http_url, script, connections=_CONNECTIONS, seconds=bench.sizes.seconds
    )


def _now(field: Field, label: str) -> Figures:
    return {"memory_mb": memory_mb(field.system.pid(label) or 0)}


MEMORY: Final = Interleaved(
    name=names.MEMORY,
    summary="resident memory of each process, idle and after a million transactions",
    arms=[Arm("every process", _memory)],
    # A million transactions a sample, and memory hardly differs from run to run.
    runs_max=1,
)
