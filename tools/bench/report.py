"""What a run ends with: tables in the terminal, JSON in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from cli.output import print_table
from tools.bench.demands import NOT_MEASURED
from tools.bench.result import BenchResult
from tools.bench.tables import case_table, demand_table

if TYPE_CHECKING:
    from rich.console import Console

    from tools.bench.cases.case import Case


def print_result(result: BenchResult, out: "Console") -> None:
    """Print a table for each case, the demands, and whether the books balanced."""
    for case in result.values:
        out.print()
        out.print(f"{case}", style="bold")
        print_table(*case_table(result, case))
    heading, demands = demand_table([result])
    if measured := [row for row in demands if row[-1] != NOT_MEASURED]:
        out.print()
        out.print("demands", style="bold")
        print_table(heading, measured)
    for contestant, why in result.missing.items():
        out.print(f"not measured: {contestant} ({why})")
    if result.is_clean:
        out.print(f"verify: {result.verified} ledgers, every one clean", style="bold green")
    for finding in result.unclean:
        out.print(f"verify: {finding}", style="bold red")


def print_cases(cases: Sequence["Case"], out: "Console") -> None:
    """Print every case with what it measures, and what of it this machine cannot."""
    width = max(len(case.name) for case in cases)
    for case in cases:
        out.print(f"{case.name:<{width}}  {case.summary}")
        for contestant, why in case.missing().items():
            out.print(f"{'':<{width}}    not here: {contestant} ({why})")


def write_report(result: BenchResult, path: Path) -> None:
    """Write the run as JSON, the file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(orjson.dumps(result.to_json(), option=orjson.OPT_INDENT_2) + b"\n")
    draft.replace(path)
