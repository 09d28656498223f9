"""Every case, in the order in which they are run."""

from collections.abc import Sequence
from typing import Final

from cli.failures import UsageError
from tools.bench.cases import (
    drain,
    growth,
    latency,
    partitions,
    posting,
    processes,
    proofs,
    status,
    types,
)
from tools.bench.cases.case import Case

CASES: Final[Sequence[Case]] = (
    drain.CASE,
    types.CASE,
    partitions.CASE,
    posting.END_TO_END,
    posting.SUBMIT,
    latency.CASE,
    status.CASE,
    processes.START_UP,
    processes.MEMORY,
    proofs.CASE,
    growth.CASE,
)


def chosen(wanted: Sequence[str]) -> list[Case]:
    """Return the cases by name, in their own order; all without a name. Raises UsageError."""
    known = {case.name for case in CASES}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"no case '{unknown[0]}'; there are: {', '.join(sorted(known))}")
    return [case for case in CASES if not wanted or case.name in wanted]
