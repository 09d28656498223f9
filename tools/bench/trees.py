"""This checkout beside another one, in turns on the same machine: `make compare BASE=<commit>`.

Run in the root of this checkout: `.venv/bin/python -m tools.bench.trees OTHER`

Prints, for each contestant, both medians and their ratio: rates, and processor time a transaction.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path.cwd()
SAMPLERS: Final = ("tools/bench/tree_sample.py", "benchmarks/tree_sample.py")
"""Where a tree has the program that takes a sample of it; older trees have it elsewhere."""
CASES_OF_ITS_OWN: Final = "tools/bench/tree_cases.py"
"""What the sampler measures beside the cases of `ackledger bench`."""
OLDER_NAMES: Final = {
    "ackledger.client.publishing": "ops.clients.amqp",
    "from tools.bench.tree_cases": "from tree_cases",
    "from tools.": "from ops.",
}
"""Where the oldest trees, which have none, keep what this one's sampler imports."""
TRANSLATED: Final = ".local"
METRICS: Final = (
    "transactions_per_s",
    "completed_per_s",
    "accepted_per_s",
    "requests_per_s",
    "p50_ms",
    "p99_ms",
    "bytes_each",
    "memory_mb",
    "cores",
    "ready_s",
)
"""Beside processor time, `<process>_us` a transaction."""

Samples = dict[tuple[str, str], list[float]]


def _sample(tree: Path, cases: Sequence[str]) -> dict[str, dict[str, float]]:
    # Each tree's own: it imports by the names that its modules have there.
    sampler = next((path for name in SAMPLERS if (path := tree / name).exists()), None)
    sampler = sampler or _translated(tree, SAMPLERS[0], CASES_OF_ITS_OWN)
    done = subprocess.run(
        # -P: the folder of the sampler is no place to import from.
        [tree / ".venv/bin/python", "-P", sampler, *cases],
        cwd=tree,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": f"{tree}:{tree / TRANSLATED}"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _translated(tree: Path, *programs: str) -> Path:
    """Copy this tree's sampler, the first, with the modules' older names, and return its path."""
    folder = tree / TRANSLATED
    folder.mkdir(exist_ok=True)
    for program in programs:
        text = (HERE / program).read_text()
        for name, older in OLDER_NAMES.items():
            text = text.replace(name, older)
        (folder / Path(program).name).write_text(text)
    return folder / Path(programs[0]).name


def _note(samples: Samples, found: dict[str, dict[str, float]]) -> None:
    for contestant, figures in found.items():
        for metric, value in figures.items():
            samples[contestant, metric].append(value)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.4g}" for value in values)


def main() -> None:
    """Measure in turns, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path, help="a checkout with an environment in .venv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--cases",
        nargs="+",
        default=[],
        metavar="CASE",
        help="only these, such as drain, end-to-end, submit, latency, reads or takes",
    )
    options = parser.parse_args()
    before: Samples = defaultdict(list)
    after: Samples = defaultdict(list)
    for number in range(options.rounds):
        turns = [(options.base.resolve(), before), (HERE, after)]
        # Whoever comes second finds a warmer machine: they change places.
        for tree, samples in turns if number % 2 == 0 else turns[::-1]:
            sys.stderr.write(f"round {number + 1} of {options.rounds}: {tree.name}\n")
            _note(samples, _sample(tree, options.cases))
    for key in before:
        contestant, metric = key
        if (metric in METRICS or metric.endswith("_us")) and key in after:
            old, new = statistics.median(before[key]), statistics.median(after[key])
            ratio = f"{new / old:.3f}" if old else "none"  # a process may have had nothing to do
            sys.stdout.write(
                f"{contestant:<45} {metric:<24} {old:12,.2f} → {new:12,.2f}  ratio {ratio}"
                f"  ({_listed(before[key])} → {_listed(after[key])})\n"
            )


if __name__ == "__main__":
    main()
