"""Drain: how fast a backlog is posted, beside pgbench and consumers that others would write."""

from itertools import product
from typing import Final

from tools.bench import contestants as rivals
from tools.bench import pgbench
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import drain
from tools.bench.laying import Kind, Pattern
from tools.bench.result import Figures

PGBENCH_CLIENTS: Final = (4, 8, 16)
_DRAINED: Final = (
    *product(Kind, (Pattern.UNIFORM, Pattern.HOT, Pattern.REFUSALS)),
    *product((Kind.RECORDED, Kind.SINGLES), (Pattern.WIDE, Pattern.ZIPF_1, Pattern.ZIPF_2)),
)


def _draining(kind: Kind, pattern: Pattern) -> Measure:
    name = names.of(kind, pattern)

    async def measure(bench: Bench) -> dict[str, Figures]:
        async with bench.gated_field() as field, field.ground.books() as connection:
            wallets = await bench.wallets(connection, pattern)
            transfers = bench.transfers(wallets, pattern, bench.count_of(kind))
            figures = await drain(field, connection, kind, transfers)
            await bench.prove(connection, name)
        return {name: figures}

    return measure


def _ours() -> list[Arm]:
    return [Arm(names.of(kind, pattern), _draining(kind, pattern)) for kind, pattern in _DRAINED]


def _theirs() -> list[Arm]:
    return [
        *(
            Arm(f"{names.PGBENCH}, {clients} clients", pgbench.measuring(clients), pgbench.missing)
            for clients in PGBENCH_CLIENTS
        ),
        *(
            Arm(contestant.name, rivals.measuring(contestant), contestant.rival.missing)
            for contestant in rivals.CONTESTANTS
        ),
    ]


CASE: Final = Interleaved(
    name=names.DRAIN,
    summary="a backlog is posted: three kinds of message, six patterns of wallets, and rivals",
    arms=[*_ours(), *_theirs()],
)
