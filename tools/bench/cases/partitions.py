"""Partitions: the same drain by one processor, and by several that share the queues."""

from dataclasses import replace
from typing import Final

from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import drain
from tools.bench.laying import Kind, Pattern
from tools.bench.result import Figures

_CREWS: Final = {
    names.ONE_QUEUE: (1, 1),
    names.ONE_FOR_FOUR: (1, 4),
    names.FOUR_QUEUES: (4, 4),
}
"""Processors, and partitions."""


def _draining(name: str) -> Measure:
    processors, partitions = _CREWS[name]

    async def measure(bench: Bench) -> dict[str, Figures]:
        crew = replace(bench.crew, processors=processors, partitions=partitions)
        async with bench.gated_field(crew) as field, field.ground.books() as connection:
            wallets = await bench.wallets(connection)
            transfers = bench.transfers(wallets, Pattern.UNIFORM, bench.count_of(Kind.RECORDED))
            figures = await drain(field, connection, Kind.RECORDED, transfers)
            await bench.prove(connection, f"{names.PARTITIONS}, {name}")
        return {name: _of_all_processors(figures)}

    return measure


def _of_all_processors(figures: Figures) -> Figures:
    """Return the figures with the processors' CPU time as one."""
    theirs = [name for name in figures if name.startswith("processor")]
    others = {name: value for name, value in figures.items() if name not in theirs}
    return {**others, "processor_us": sum(figures[name] for name in theirs)}


CASE: Final = Interleaved(
    name=names.PARTITIONS,
    summary="a backlog of batch messages in four queues, posted by one processor and by four",
    arms=[Arm(name, _draining(name)) for name in _CREWS],
)
