"""Consumers that others would write: a commit a message, or a batch; each with several tunings."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from subprocess import Popen
from typing import Final

import orjson

from cli.dependencies import Connection
from runtime.amqp import connection as broker
from runtime.amqp.publisher import Outgoing
from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Measure
from tools.bench.demands import rival_prefix
from tools.bench.draining import rate_of
from tools.bench.failing import BenchFailedError
from tools.bench.ground import Ground
from tools.bench.laying import Pattern, Transfer, Wallets, publish
from tools.bench.options import Sizes
from tools.bench.programs import missing_module, running_program
from tools.bench.result import Figures
from tools.bench.usage import CpuMeter

QUEUE: Final = "rival"
LOOK_S: Final = 0.25
_BOUND_S: Final = 300.0
_AMOUNT_MINOR: Final = 100
BALANCE_MINOR: Final = 10**12
"""In each wallet of a rival at the beginning: as much as ours may overdraw."""

Body = Callable[[Transfer], bytes]


@dataclass(frozen=True, slots=True)
class Rival:
    """A program of tools/bench/rivals/, and what one message to it looks like."""

    name: str
    module: str
    arguments: Callable[[int], Sequence[str]]
    body: Body
    headers: Callable[[Transfer], Mapping[str, str]] = lambda _: {}
    count: Callable[[Sizes], int] = lambda sizes: sizes.rival
    """How many transfers it is laid: enough that a sample is not over before it began."""

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        return missing_module(self.module)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A rival with one tuning: messages in hand at once, worker processes, or a batch's size.

    `prefetch`: of the rivals for which the tuning is something else. `consumers`: processes that
    share the queue.
    """

    rival: Rival
    pattern: Pattern
    tuning: int
    tuned: str
    prefetch: int | None = None
    consumers: int = 1

    @property
    def name(self) -> str:
        """The rival, the pattern, the tuning."""
        prefetch = "" if self.prefetch is None else f", prefetch {self.prefetch}"
        consumers = "" if self.consumers == 1 else f", {self.consumers} consumers"
        tuning = f"{self.tuned} {self.tuning}{prefetch}{consumers}"
        return f"{rival_prefix(self.rival.name, self.pattern)}{tuning}"

    @property
    def settings(self) -> Mapping[str, str]:
        """What its program is told in its environment."""
        return {
            "PREFETCH": str(self.prefetch or self.tuning),
            "BATCH": str(self.tuning),
            "CONSUMERS": str(self.consumers),
        }


def _fields(transfer: Transfer) -> dict[str, object]:
    return {
        "id": transfer.key,
        "key": transfer.key,
        "source": str(transfer.source),
        "destination": str(transfer.destination),
        "amount": _AMOUNT_MINOR,
    }


def _plain(transfer: Transfer) -> bytes:
    return orjson.dumps(_fields(transfer))


def _task(transfer: Transfer) -> bytes:
    """Celery's message protocol 2: positional arguments, keywords, and what follows the task."""
    follows = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return orjson.dumps([[], _fields(transfer), follows])


def _worker(processes: int) -> Sequence[str]:
    return (
        *("-m", "celery", "--app", "tools.bench.rivals.celery_sqlalchemy", "worker"),
        *("--loglevel", "WARNING", "--concurrency", str(processes), "--prefetch-multiplier", "8"),
        *("--without-gossip", "--without-mingle"),
    )


_AIO_PIKA: Final = Rival(
    names.AIO_PIKA, "aio_pika", lambda _: ("-m", "tools.bench.rivals.aio_pika_asyncpg"), _plain
)
_FASTSTREAM: Final = Rival(
    names.FASTSTREAM,
    "faststream",
    lambda _: ("-m", "tools.bench.rivals.faststream_asyncpg"),
    _plain,
)
_CELERY: Final = Rival(
    names.CELERY,
    "celery",
    _worker,
    _task,
    headers=lambda one: {"lang": "py", "task": "transfer", "id": one.key, "root_id": one.key},
)

_BATCHED: Final = Rival(
    names.AIO_PIKA_BATCHED,
    "aio_pika",
    lambda _: ("-m", "tools.bench.rivals.aio_pika_asyncpg_batched"),
    _plain,
    count=lambda sizes: sizes.singles,
)
Batching = tuple[int, int, int]
_BATCHES: Final[Sequence[Batching]] = (
    (500, 1_000, 1),
    (200, 400, 2),
    (500, 1_000, 2),
    (200, 400, 1),
    (1_000, 2_000, 1),
)
"""Tunings of the batching rival: the most in a batch, the prefetch, and consumers."""
_BATCHES_ELSEWHERE: Final = _BATCHES[:2]
"""With wallets that are not uniform: those that led where they are."""


def _batching(pattern: Pattern, tunings: Iterable[Batching]) -> Iterator[Contestant]:
    for batch, prefetch, consumers in tunings:
        yield Contestant(_BATCHED, pattern, batch, "batch", prefetch, consumers)


CONTESTANTS: Final = (
    *(Contestant(_AIO_PIKA, Pattern.UNIFORM, tuning, "prefetch") for tuning in (16, 32, 64)),
    *(Contestant(_FASTSTREAM, Pattern.UNIFORM, tuning, "prefetch") for tuning in (16, 32, 64)),
    *(Contestant(_CELERY, Pattern.UNIFORM, tuning, "processes") for tuning in (4, 8)),
    *(Contestant(_AIO_PIKA, Pattern.HOT, tuning, "prefetch") for tuning in (4, 16, 32)),
    *_batching(Pattern.UNIFORM, _BATCHES),
    *_batching(Pattern.HOT, _BATCHES_ELSEWHERE),
    Contestant(_AIO_PIKA, Pattern.ZIPF_1, 16, "prefetch"),
    *(Contestant(_AIO_PIKA, Pattern.ZIPF_2, tuning, "prefetch") for tuning in (4, 16)),
    *_batching(Pattern.WIDE, _BATCHES_ELSEWHERE),
    *_batching(Pattern.ZIPF_1, _BATCHES_ELSEWHERE),
    *_batching(Pattern.ZIPF_2, _BATCHES_ELSEWHERE),
)


def measuring(contestant: Contestant) -> Measure:
    """Return what takes a sample of a contestant."""

    async def measure(bench: Bench) -> dict[str, Figures]:
        async with bench.bare_ground() as ground, ground.books() as connection:
            sql = load_queries("tools.bench")
            await connection.execute(
                resources.files("tools.bench.rivals").joinpath("schema.sql").read_text()
            )
            rows = await connection.fetch(
                sql["fill_rival_wallets"], bench.wallets_of(contestant.pattern), BALANCE_MINOR
            )
            wallets = Wallets([row["id"] for row in rows], [])
            transfers = bench.transfers(
                wallets, contestant.pattern, contestant.rival.count(bench.sizes)
            )
            await _publish(ground, contestant.rival, transfers)
            await connection.execute(sql["settle_tables"])
            figures = await _consume(bench.directory, ground, connection, contestant, transfers)
            bench.watch.step(f"verifying after {contestant.name}")
            bench.found(f"{names.DRAIN}, {contestant.name}", await disagreements(connection))
        return {contestant.name: figures}

    return measure


async def disagreements(connection: Connection) -> list[str]:
    """Return what is wrong in a rival's books, which have to fit as ours have to."""
    rows = await connection.fetch(load_queries("tools.bench")["verify_rival"], BALANCE_MINOR)
    return [f"{row['finding']}: {row['subject']}" for row in rows]


async def _publish(ground: Ground, rival: Rival, transfers: Sequence[Transfer]) -> None:
    """Lay its backlog in a quorum queue, persistent and confirmed, as ours is."""
    connection = await broker.connect(ground.amqp_url, name="bench")
    try:
        channel = await broker.open_channel(connection)
        await channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    finally:
        await broker.close(connection)
    messages = [
        Outgoing(
            exchange="",
            routing_key=QUEUE,
            body=rival.body(one),
            type="transfer",
            headers=rival.headers(one),
        )
        for one in transfers
    ]
    await publish(ground.amqp_url, messages)


async def _consume(
    directory: Path,
    ground: Ground,
    connection: Connection,
    contestant: Contestant,
    transfers: Sequence[Transfer],
) -> Figures:
    """Let the rival consume all of it, and return what its table says."""
    rival, count = contestant.rival, len(transfers)
    environment = {
        "PATH": "/usr/bin:/bin",
        "DATABASE_URL": ground.database_url,
        "AMQP_URL": ground.amqp_url,
        "QUEUE": QUEUE,
        **contestant.settings,
    }
    with running_program(
        "rival", rival.arguments(contestant.tuning), directory=directory, environment=environment
    ) as program:
        progress = _Progress(connection, contestant, program, directory)
        begun = await progress.reach(1)
        # Its start is no part of what a message costs.
        meter = CpuMeter({"rival": program.pid, **ground.server_pids})
        await progress.reach(count, last_key=transfers[-1].key)
        cpu = meter.figures(max(count - begun, 1))
    [row] = await connection.fetch(load_queries("tools.bench")["measure_rival"])
    return {"transactions_per_s": rate_of(row, expected=count), **cpu}


class _Progress:
    """How far a rival is; raises BenchFailedError when it ends or takes too long."""

    def __init__(
        self,
        connection: Connection,
        contestant: Contestant,
        program: Popen[bytes],
        directory: Path,
    ) -> None:
        self._connection = connection
        self._name = contestant.name
        self._program = program
        self._log = directory / "logs" / "rival.log"
        self._deadline = time.monotonic() + _BOUND_S
        self._sql = load_queries("tools.bench")

    async def reach(self, count: int, *, last_key: str | None = None) -> int:
        """Return how many it has done, once that is as many as wanted.

        They are counted only once the last of the line is done: counting reads the whole table.
        """
        while (done := await self._done(last_key)) < count:
            if self._program.poll() is not None:
                raise BenchFailedError(
                    f"{self._name} ended with {self._program.returncode}; see {self._log}"
                )
            if time.monotonic() > self._deadline:
                raise BenchFailedError(
                    f"{self._name}: {await self._done(None)} of {count} in {_BOUND_S:.0f} s; "
                    f"see {self._log}"
                )
            await asyncio.sleep(LOOK_S)
        return done

    async def _done(self, last_key: str | None) -> int:
        ended = self._sql["is_rival_ended"]
        if last_key is not None and not await self._connection.fetchval(ended, last_key):
            return 0
        return int(await self._connection.fetchval(self._sql["count_rival_completed"]))
