"""What a bench run found: every value of every figure, the circumstances, the proofs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cli.failures import UsageError
from tools.bench.statistics import Spread, spread_of

Figures = dict[str, float]
"""One sample: a value for each metric."""

FORMAT = 1
"""Of the report; one of another format is refused."""


@dataclass(slots=True)
class BenchResult:
    """Figures by case, contestant and metric, in the order in which they were measured."""

    circumstances: dict[str, Any] = field(default_factory=dict)
    """Date, command, machine, versions, settings."""
    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Contestants that could not be measured, and why."""
    verified: int = 0
    """How many ledgers were verified after their sample."""
    unclean: list[str] = field(default_factory=list)
    """What `verify` found."""

    @property
    def is_clean(self) -> bool:
        """Whether every ledger verified clean."""
        return not self.unclean

    def note(self, case: str, contestant: str, figures: Mapping[str, float]) -> None:
        """Add one sample."""
        metrics = self.values.setdefault(case, {}).setdefault(contestant, {})
        for metric, value in figures.items():
            metrics.setdefault(metric, []).append(value)

    def spread(self, case: str, contestant: str, metric: str) -> Spread | None:
        """Return what a figure came to; None where it was not measured."""
        values = self.values.get(case, {}).get(contestant, {}).get(metric)
        return spread_of(values) if values else None

    def median(self, case: str, contestant: str, metric: str) -> float | None:
        """Return a figure's median; None where it was not measured."""
        found = self.spread(case, contestant, metric)
        return None if found is None else found.median

    def contestants(self, case: str) -> list[str]:
        """Return who was measured in a case."""
        return list(self.values.get(case, {}))

    def series(self) -> Iterator[dict[str, Any]]:
        """Yield each figure with its values and what they come to."""
        for case, contestants in self.values.items():
            for contestant, metrics in contestants.items():
                for metric, values in metrics.items():
                    spread = spread_of(values)
                    yield {
                        "case": case,
                        "contestant": contestant,
                        "metric": metric,
                        "median": round(spread.median, 4),
                        "least": round(spread.least, 4),
                        "most": round(spread.most, 4),
                        "values": [round(value, 4) for value in values],
                    }

    def to_json(self) -> dict[str, Any]:
        """Return it as the report holds it."""
        return {
            "format": FORMAT,
            "is_clean": self.is_clean,
            "circumstances": self.circumstances,
            "figures": list(self.series()),
            "missing": self.missing,
            "verified": self.verified,
            "unclean": self.unclean,
        }


def load_result(path: Path) -> BenchResult:
    """Return what a report holds; raises UsageError when it is none."""
    try:
        content = orjson.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise UsageError(f"{path} is of format {content['format']}, not {FORMAT}")
        result = BenchResult(
            circumstances=content["circumstances"],
            missing=content["missing"],
            verified=content["verified"],
            unclean=content["unclean"],
        )
        for figure in content["figures"]:
            for value in figure["values"]:
                result.note(figure["case"], figure["contestant"], {figure["metric"]: value})
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no report of a bench run: {error!r}") from error
    return result


def by_case(results: Sequence[BenchResult]) -> dict[str, BenchResult]:
    """Return each case with the first result that holds it."""
    found: dict[str, BenchResult] = {}
    for result in results:
        for case in result.values:
            found.setdefault(case, result)
    return found
