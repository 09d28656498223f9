"""This checkout beside another one, in turns on the same machine: `make compare BASE=<commit>`.

Run in the root of this checkout: `.venv/bin/python -m tools.bench.trees OTHER`

Prints, for each contestant, both medians and their ratio: rates, and processor time a transaction.
The trees change places at each case, so that a minute in which the machine is slow hits both.
`--report FILE` keeps all samples as JSON, written after each round, and `--page DIRECTORY` writes
the demands of tools/bench/beside.py into performance.md there. Where only some `--cases` are
measured, what the file has of others stays.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tools.bench.beside import CPU, RATES, TAKEN, Compared, beside_table
from tools.bench.page import PAGE, emphasised, markdown_table, with_section
from tools.bench.tree_sample import CASES

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
METRICS: Final = (*RATES, *TAKEN)
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
        if taken := [value for metric, value in figures.items() if metric.endswith("_us")]:
            samples[contestant, CPU].append(sum(taken))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.4g}" for value in values)


def _compared(before: Samples, after: Samples) -> Compared:
    """Return the pairs that are shown: what both trees have."""
    return {
        key: (before[key], after[key])
        for key in before
        if (key[1] in METRICS or key[1].endswith("_us")) and key in after
    }


def _print(compared: Compared) -> None:
    for (contestant, metric), (before, after) in compared.items():
        old, new = statistics.median(before), statistics.median(after)
        ratio = f"{new / old:.3f}" if old else "none"  # a process may have had nothing to do
        sys.stdout.write(
            f"{contestant:<45} {metric:<24} {old:12,.2f} → {new:12,.2f}  ratio {ratio}"
            f"  ({_listed(before)} → {_listed(after)})\n"
        )


def _report(path: Path, compared: Compared, circumstances: Mapping[str, Any]) -> None:
    """Keep all samples: by contestant and metric, those of the base and those of this tree."""
    cases: dict[str, dict[str, Any]] = {}
    for (contestant, metric), (before, after) in compared.items():
        figures = cases.setdefault(contestant, {})
        figures[metric] = {"before": list(before), "now": list(after)}
    text = json.dumps({"circumstances": circumstances, "cases": cases}, indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


def _kept(path: Path | None) -> Compared:
    """Return what a report has, if there is one."""
    if path is None or not path.exists():
        return {}
    return {
        (contestant, metric): (pair["before"], pair["now"])
        for contestant, figures in json.loads(path.read_text(encoding="utf-8"))["cases"].items()
        for metric, pair in figures.items()
    }


def _write_page(directory: Path, compared: Compared, circumstances: Mapping[str, Any]) -> None:
    page = directory / PAGE
    table = emphasised(markdown_table(*beside_table(compared)))
    told = (
        f"`{circumstances['command']}`, {circumstances['rounds']} rounds in turns, "
        f"{circumstances['began_at']} to {circumstances['ended_at']}:"
    )
    text = with_section(page.read_text(encoding="utf-8"), "beside", f"{told}\n\n{table}")
    page.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path, help="a checkout with an environment in .venv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path, help="a file for all samples, as JSON")
    parser.add_argument("--page", type=Path, help="the directory of performance.md")
    parser.add_argument(
        "--cases",
        nargs="+",
        default=[],
        metavar="CASE",
        help="only these, such as drain, end-to-end, submit, latency, reads or takes",
    )
    return parser.parse_args()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> None:
    """Measure in turns, then print the table."""
    options = _options()
    command = f"python -m tools.bench.trees {shlex.join(sys.argv[1:])}"
    circumstances: dict[str, Any] = {"command": command, "began_at": _now()}
    kept = _kept(options.report) if options.cases else {}
    before: Samples = defaultdict(list)
    after: Samples = defaultdict(list)
    for number in range(options.rounds):
        turns = [(options.base.resolve(), before), (HERE, after)]
        for case in options.cases or CASES:
            # Whoever comes second finds a warmer machine: they change places.
            for tree, samples in turns if number % 2 == 0 else turns[::-1]:
                sys.stderr.write(f"round {number + 1} of {options.rounds}: {case}, {tree.name}\n")
                _note(samples, _sample(tree, [case]))
        circumstances |= {"rounds": number + 1, "ended_at": _now()}
        if options.report is not None:
            _report(options.report, {**kept, **_compared(before, after)}, circumstances)
    compared = _compared(before, after)
    _print(compared)
    if options.page is not None:
        _write_page(options.page, {**kept, **compared}, circumstances)


if __name__ == "__main__":
    main()
