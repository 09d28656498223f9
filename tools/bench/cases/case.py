"""A case: what is measured side by side."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tools.bench.bench import Bench
from tools.bench.options import BenchOptions
from tools.bench.result import Figures

Measure = Callable[[Bench], Awaitable[Mapping[str, Figures]]]
"""Takes one sample, of one contestant or of several that are had together."""


class Case(Protocol):
    """Something to be measured."""

    @property
    def name(self) -> str:
        """By which it is chosen."""

    @property
    def summary(self) -> str:
        """A line that says what is measured."""

    def missing(self) -> Mapping[str, str]:
        """Return contestants that cannot be measured on this machine, and why."""

    def samples(self, options: BenchOptions) -> int:
        """Return how many samples it takes, for the progress."""

    async def run(self, bench: Bench) -> None:
        """Take every sample."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One contestant. `missing` returns why it cannot be measured here, or None."""

    name: str
    measure: Measure
    missing: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interleaved:
    """Contestants that take turns, A B C A B C: a machine's bad minute hits all of them."""

    name: str
    summary: str
    arms: Sequence[Arm]
    runs_max: int | None = None

    def missing(self) -> Mapping[str, str]:
        """Return contestants that cannot be measured on this machine, and why."""
        return {arm.name: why for arm in self.arms if (why := arm.missing()) is not None}

    def samples(self, options: BenchOptions) -> int:
        """Return how many samples it takes."""
        return self._runs(options) * (len(self.arms) - len(self.missing()))

    async def run(self, bench: Bench) -> None:
        """Take every sample, in rounds."""
        missing = self.missing()
        for number in range(1, self._runs(bench.options) + 1):
            for arm in self.arms:
                if arm.name in missing:
                    continue
                bench.watch.step(f"{self.name}, round {number}: {arm.name}")
                for contestant, figures in (await arm.measure(bench)).items():
                    bench.note(self.name, contestant, figures)

    def _runs(self, options: BenchOptions) -> int:
        return min(options.runs, self.runs_max or options.runs)
