"""Every fault that a chaos run knows, in the order in which they are listed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cli.failures import UsageError
from tools.chaos.faults import (
    broker,
    clocks,
    database,
    letters,
    links,
    network,
    points,
    processes,
    servers,
)
from tools.chaos.faults.fault import SceneFault

FAULTS: Final[tuple[SceneFault, ...]] = (
    *points.FAULTS,
    *processes.FAULTS,
    *servers.FAULTS,
    *broker.FAULTS,
    *database.FAULTS,
    *network.FAULTS,
    *links.FAULTS,
    *letters.FAULTS,
    *clocks.FAULTS,
)


def chosen(names: Sequence[str]) -> list[SceneFault]:
    """Return the faults of these names, or all; raises UsageError for one that is not known.

    `name:target` leaves a fault that target alone; named more than once, it has all that are named.
    """
    if not names:
        return list(FAULTS)
    known = {fault.name: fault for fault in FAULTS}
    wanted: dict[str, list[str]] = {}
    for text in names:
        name, _, target = text.partition(":")
        if name not in known:
            raise UsageError(f"'{name}' is no fault; `ackledger chaos --list` shows them")
        if target and target not in known[name].targets:
            places = ", ".join(known[name].targets) or "none"
            raise UsageError(f"'{target}' is no target of {name}; it has: {places}")
        wanted.setdefault(name, []).extend([target] if target else known[name].targets)
    return [_aimed(known[name], targets) for name, targets in wanted.items()]


def _aimed(fault: SceneFault, targets: Sequence[str]) -> SceneFault:
    return replace(fault, targets={target: fault.targets[target] for target in targets})
