"""Growth: the same drain after ever longer histories of a ledger that verifies clean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cli.dependencies import Connection
from reconciler.sealing import Sealer
from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.draining import drain
from tools.bench.ground import PATIENT, Ground, started
from tools.bench.laying import Kind, Pattern, Wallets, make_wallets
from tools.bench.options import BenchOptions
from tools.bench.result import Figures
from tools.bench.sealing import reconciler_pool, seal_all

_VACUUM_EVERY: Final = 500_000
"""Transactions of history between two clean-ups, as autovacuum would have done them meanwhile."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Steps that build on each other, so they are not interleaved; the first is the rival."""

    name: str = names.GROWTH
    summary: str = "the drain after 10 thousand, 1 million and 10 million transactions"

    def missing(self) -> dict[str, str]:
        """Nothing is."""
        return {}

    def samples(self, options: BenchOptions) -> int:
        """Return how many samples it takes."""
        return options.runs * len(options.sizes.growth)

    async def run(self, bench: Bench) -> None:
        """Lengthen the history and drain, step by step."""
        async with bench.bare_ground() as ground:
            await ground.migrate({})
            async with ground.books() as connection:
                wallets = Wallets([], [])
                for transactions, wallets_wanted in bench.sizes.growth:
                    more = await make_wallets(
                        connection, rich=wallets_wanted - len(wallets.rich), poor=0
                    )
                    wallets = Wallets([*wallets.rich, *more.rich], [])
                    await lengthen(bench, connection, transactions, wallets_wanted)
                    name = names.with_history(transactions, wallets_wanted)
                    bench.watch.step(f"{names.GROWTH}, {name}: sealing the history")
                    await _seal(ground)
                    await _drain_often(bench, ground, connection, wallets, name)
                    await bench.prove(connection, f"{names.GROWTH}, {name}")


async def _seal(ground: Ground) -> None:
    """Seal what was added, as the reconciler would have done meanwhile.

    Otherwise it would begin to, a quarter of a core, beside the drain that is measured.
    """
    async with reconciler_pool(ground.database_url) as pool:
        await seal_all(Sealer(pool, keys=None, interval_s=1))


async def _drain_often(
    bench: Bench, ground: Ground, connection: Connection, wallets: Wallets, name: str
) -> None:
    for number in range(1, bench.options.runs + 1):
        bench.watch.step(f"{names.GROWTH}, {name}, round {number}")
        bench.note(names.GROWTH, name, await _drain(bench, ground, connection, wallets))


async def _drain(bench: Bench, ground: Ground, connection: Connection, wallets: Wallets) -> Figures:
    """Drain on a system that is started for it, so that each sample begins alike."""
    async with started(ground, bench.crew, is_gated=True, settings=PATIENT) as field:
        transfers = bench.transfers(wallets, Pattern.UNIFORM, bench.sizes.recorded)
        return await drain(field, connection, Kind.RECORDED, transfers)


async def lengthen(bench: Bench, connection: Connection, wanted: int, wallets: int) -> None:
    """Add rounds of history until there are as many transactions."""
    await lay_history(
        connection,
        wanted,
        wallets,
        step=lambda there: bench.watch.step(f"{names.GROWTH}: history {there:,} of {wanted:,}"),
    )


async def lay_history(
    connection: Connection, wanted: int, wallets: int, *, step: Callable[[int], None]
) -> int:
    """Add rounds of history, a transfer of each wallet in each; return how many there are then.

    By plain SQL, over tables of any release whose transactions are moves between two wallets.
    """
    sql = load_queries("tools.bench")
    await connection.execute(sql["number_wallets"])
    there: int = await connection.fetchval(sql["count_history"])
    cleaned = there
    round_number = 0
    while there < wanted:
        round_number += 1
        await connection.execute(sql["add_history"], wallets, shift_of(round_number, wallets))
        there += wallets
        step(there)
        if there - cleaned >= _VACUUM_EVERY:
            await connection.execute(sql["settle_tables"])
            cleaned = there
    await connection.execute(sql["pass_sweep"])
    await connection.execute(sql["settle_tables"])
    return there


def shift_of(round_number: int, wallets: int) -> int:
    """Return how far the receiver is from the sender: another one each round, and never itself."""
    return 1 + round_number * 7_919 % (wallets - 1)


CASE: Final = Growth()
