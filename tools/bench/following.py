"""What the log of events costs: the drain with and without it, and thousands who follow it.

Drains of recorded transfers, in turns without the log and with it, nobody following. Then READERS
clients follow one ingress by server-sent events, each its own wallet, while transfers between those
wallets are posted: the ingress's memory before, with all of them, and after; its CPU an event; how
long after the last commit the last event was read. At last some follow everything and never read.
Run: `.venv/bin/python -m tools.bench.following [READERS] [ROUNDS]`; 0 leaves a part out.
"""

import asyncio
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import uvloop
from yarl import URL

from ackledger.client.publishing import quiet_libraries
from cli.dependencies import Connection
from tools.bench.draining import await_ended, drain
from tools.bench.ground import LOG_KEPT, PATIENT, Crew, Field, fresh_field, without_settings
from tools.bench.laying import Kind, Pattern, Transfer, Wallets, lay, make_wallets, plan_transfers
from tools.bench.usage import CpuMeter, memory_mb
from tools.stack import Stack, StackMode, StackOptions, start_stack
from tools.system import CLIENT

DIRECTORY: Final = Path(".local/following").absolute()
WALLETS: Final = 10_000
DRAINED: Final = 100_000
POSTED: Final = 20_000
SILENT: Final = 100
CONNECTING_AT_ONCE: Final = 50
ARRIVED_IN_S: Final = 120.0
QUIET_S: Final = 5.0
_KB_IN_MB: Final = 1024


class Reader:
    """One client's connection: counts events, and keeps none."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.events = 0

    @classmethod
    async def connect(cls, url: URL, api_key: str, wallet_id: UUID | None) -> "Reader":
        """Follow a wallet, or everything; return when the head of the answer has come."""
        query = "" if wallet_id is None else f"?wallet_id={wallet_id}"
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            f"GET /v1/events{query} HTTP/1.1\r\nHost: bench\r\n"
            f"Authorization: Bearer {api_key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise SystemExit(f"not followed: {head.decode()}")
        return cls(reader, writer)

    async def read(self) -> None:
        """Count events until the end."""
        while line := await self._reader.readline():
            self.events += line.startswith(b"event: ")

    def pause(self) -> None:
        """Read nothing more: the socket fills."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def _connect_all(field: Field, wallet_ids: Sequence[UUID | None]) -> list[Reader]:
    url, places = URL(field.system.http_url), asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def connect(wallet_id: UUID | None) -> Reader:
        async with places:
            return await Reader.connect(url, field.system.api_key, wallet_id)

    return await asyncio.gather(*map(connect, wallet_ids))


@asynccontextmanager
async def _field(stack: Stack, settings: Mapping[str, str]) -> AsyncIterator[Field]:
    crew = Crew(DIRECTORY / "system", without_settings(os.environ), processors=1)
    async with fresh_field(stack, crew, is_gated=True, settings={**PATIENT, **settings}) as field:
        yield field


def _transfers(wallets: Wallets, count: int, *, seed: int) -> list[Transfer]:
    return list(plan_transfers(wallets, Pattern.UNIFORM, count, seed=seed))


async def _drains(stack: Stack, rounds: int) -> None:
    found: dict[str, list[Mapping[str, float]]] = {"off": [], "on": []}
    for number in range(rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            async with (
                _field(stack, LOG_KEPT if name == "on" else {}) as field,
                field.ground.books() as connection,
            ):
                wallets = await make_wallets(connection, rich=WALLETS, poor=0)
                transfers = _transfers(wallets, DRAINED, seed=number)
                figures = await drain(field, connection, Kind.RECORDED, transfers)
                found[name].append(figures)
                _say(f"  log {name}: {figures['transactions_per_s']:,.0f} transactions/s")
    for name, samples in found.items():
        medians = {key: statistics.median(one[key] for one in samples) for key in samples[0]}
        _say(f"drain, log {name}: {', '.join(f'{key} {medians[key]:,.1f}' for key in medians)}")


async def _follow(stack: Stack, count: int) -> None:
    most = {"ACKLEDGER_EVENTS_READERS_MAX": str(count + SILENT)}
    async with (
        _field(stack, {**LOG_KEPT, **most}) as field,
        field.ground.books() as connection,
    ):
        await field.gate.open()
        wallets = await make_wallets(connection, rich=count, poor=0)
        # What is read and imported once is not the readers'.
        for reader in await _connect_all(field, [None]):
            reader.close()
        readers = await _idle(field, wallets)
        tasks = [asyncio.create_task(reader.read()) for reader in readers]
        await _tell(field, connection, wallets, readers)
        await _leave_unread(field, connection, wallets, readers)
        for reader in readers:
            reader.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _idle(field: Field, wallets: Wallets) -> list[Reader]:
    """Connect a reader for each wallet, and look at what they take while nothing happens."""
    before, count, began = _memory(field), len(wallets.rich), time.monotonic()
    readers = await _connect_all(field, wallets.rich)
    took = time.monotonic() - began
    await asyncio.sleep(QUIET_S)
    after = _memory(field)
    _say(
        f"{count:,} readers in {took:.1f} s: {before:.0f} -> {after:.0f} MB,"
        f" {(after - before) * _KB_IN_MB / count:.1f} KB each"
    )
    meter = _ingress_meter(field)
    await asyncio.sleep(QUIET_S)
    _say(f"idle: {meter.figures(QUIET_S)['ingress_us'] / 1e4:.1f} % of a core")
    return readers


async def _tell(
    field: Field, connection: Connection, wallets: Wallets, readers: Sequence[Reader]
) -> None:
    """Post transfers between the readers' wallets: each concerns two of them."""
    transfers, meter = _transfers(wallets, POSTED, seed=1), _ingress_meter(field)
    await lay(field.ground, connection, Kind.RECORDED, transfers)
    await await_ended(field, connection, transfers)
    took = await _arrived(readers, 2 * POSTED)
    _say(
        f"{2 * POSTED:,} events read, the last {took:.2f} s after the last commit;"
        f" ingress {meter.figures(2 * POSTED)['ingress_us']:.0f} µs each; {_memory(field):.0f} MB"
    )


def _ingress_meter(field: Field) -> CpuMeter:
    return CpuMeter({"ingress": field.system.pid("ingress")})


async def _arrived(readers: Sequence[Reader], count: int) -> float:
    """Return after how many seconds so many events have been read; some may come twice."""
    began = time.monotonic()
    while (found := sum(one.events for one in readers)) < count:
        if time.monotonic() - began > ARRIVED_IN_S:
            raise SystemExit(f"{found} of {count} events arrived")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def _leave_unread(
    field: Field, connection: Connection, wallets: Wallets, readers: Sequence[Reader]
) -> None:
    """Follow everything and never read, beside those who do."""
    before = _memory(field)
    silent = await _connect_all(field, [None] * SILENT)
    for reader in silent:
        reader.pause()
    transfers = _transfers(wallets, POSTED, seed=2)
    await lay(field.ground, connection, Kind.RECORDED, transfers)
    # Those who read get all of it too.
    await _arrived(readers, 4 * POSTED)
    after = _memory(field)
    _say(
        f"{SILENT} that never read of {POSTED:,} events: {before:.0f} -> {after:.0f} MB,"
        f" {(after - before) * _KB_IN_MB / SILENT:.0f} KB each"
    )
    for reader in silent:
        reader.close()


def _memory(field: Field) -> float:
    return memory_mb(field.system.pid("ingress") or 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure on private servers."""
    arguments = [int(one) for one in sys.argv[1:]]
    readers, rounds = (*arguments, *(5_000, 3)[len(arguments) :])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    quiet_libraries()
    options = StackOptions(
        directory=DIRECTORY,
        mode=StackMode.LOCAL,
        upstream_users=(CLIENT,),
        environment=dict(os.environ),
    )
    with start_stack(options) as stack:
        if readers:
            uvloop.run(_follow(stack, readers))
        if rounds:
            uvloop.run(_drains(stack, rounds))


if __name__ == "__main__":
    main()
