"""One sample of the checkout in the working directory, as one line of JSON.

Run by `tools.bench.trees` with the interpreter of that checkout, whose own code it measures. Named
as arguments, only some cases are sampled.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop

from ackledger.client.publishing import quiet_libraries
from tools.bench.bench import Bench
from tools.bench.cases import drain, latency, names, posting, processes
from tools.bench.ground import without_settings
from tools.bench.options import BenchOptions
from tools.bench.result import BenchResult
from tools.bench.tree_cases import BOUND, READS, TAKES
from tools.stack import StackMode, StackOptions, start_stack
from tools.system import CLIENT

DIRECTORY: Final = Path(".local/tree-sample")
CASES: Final = {
    "drain": (
        drain.CASE,
        (
            names.of(names.RECORDED, names.UNIFORM),
            names.of(names.SINGLES, names.UNIFORM),
        ),
    ),
    "end-to-end": (posting.END_TO_END, (names.over_http(100), names.over_http(200))),
    "submit": (posting.SUBMIT, (names.BATCH_OF_500, names.BATCH_OF_500_ALONE)),
    # At the first of its rates: processes that are nearly idle pay for each commit alone.
    "latency": (latency.CASE, (latency.CASE.arms[0].name,)),
    **{one.name: (one, (one.name,)) for one in (READS, BOUND, TAKES)},
    "start-up": (processes.START_UP, ("each process",)),
    "memory": (processes.MEMORY, ("every process",)),
}


class _Silent:
    """Nobody follows a sample."""

    def step(self, what: str) -> None:
        """Show nothing."""

    def sampled(self, case: str, contestant: str, figures: Mapping[str, float]) -> None:
        """Tell nothing."""


async def _measure(bench: Bench, cases: Sequence[str]) -> dict[str, Mapping[str, float]]:
    found: dict[str, Mapping[str, float]] = {}
    for name, (case, arms) in CASES.items():
        for arm in case.arms:
            if arm.name in arms and (name in cases or not cases):
                found.update(await arm.measure(bench))
    return found


def main() -> None:
    """Measure on servers of its own; a ledger that does not verify clean is an error."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    options = BenchOptions(directory=DIRECTORY.absolute(), runs=1, is_quick=False, processors=1)
    quiet_libraries()
    environment = dict(os.environ)
    with start_stack(
        StackOptions(
            directory=options.directory,
            mode=StackMode.LOCAL,
            upstream_users=(CLIENT,),
            environment=environment,
        )
    ) as stack:
        result = BenchResult()
        bench = Bench(
            options,
            stack=stack,
            environment=without_settings(environment),
            result=result,
            watch=_Silent(),
        )
        found = uvloop.run(_measure(bench, sys.argv[1:]))
    if not result.is_clean:
        raise SystemExit(f"not clean: {result.unclean}")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
