"""Every fault that a chaos run knows, in the order in which they are listed."""

from collections.abc import Sequence
from typing import Final

from ops.chaos.faults import (
    broker,
    clocks,
    database,
    letters,
    network,
    points,
    processes,
    servers,
)
from ops.chaos.faults.fault import SceneFault
from ops.failures import UsageError

FAULTS: Final[tuple[SceneFault, ...]] = (
    *points.FAULTS,
    *processes.FAULTS,
    *servers.FAULTS,
    *broker.FAULTS,
    *database.FAULTS,
    *network.FAULTS,
    *letters.FAULTS,
    *clocks.FAULTS,
)


def chosen(names: Sequence[str]) -> list[SceneFault]:
    """Return the faults of these names, or all; raises UsageError for one that is not known."""
    known = {fault.name: fault for fault in FAULTS}
    for name in names:
        if name not in known:
            raise UsageError(f"'{name}' is no fault; `ackledger chaos --list` shows them")
    return [known[name] for name in names] if names else list(FAULTS)
