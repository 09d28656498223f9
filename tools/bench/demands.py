"""What is demanded of the figures, and whether a run meets it. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tools.bench.cases import names
from tools.bench.result import BenchResult

Value = Callable[[BenchResult], float | None]

NOT_MET: Final = "not met"
NOT_MEASURED: Final = "not measured"

_RATE: Final = "transactions_per_s"
_DRAINED: Final = names.of(names.RECORDED, names.UNIFORM)
_DRAINED_HOT: Final = names.of(names.RECORDED, names.HOT)


def is_met(value: float, wanted: float, *, is_less_better: bool) -> bool:
    """Whether a value is as good as wanted."""
    return value <= wanted if is_less_better else value >= wanted


def verdict_of(value: float, *, bound: float, aim: float, is_less_better: bool) -> str:
    """Return the word for a value beside a bound and the aim beyond it."""
    if is_met(value, aim, is_less_better=is_less_better):
        return "aim met"
    return "met" if is_met(value, bound, is_less_better=is_less_better) else NOT_MET


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One row: what is compared, the bound, and the aim beyond it."""

    what: str
    bound: float
    aim: float
    value: Value
    is_less_better: bool = False
    decimals: int = 2
    unit: str = ""

    def meets(self, value: float, wanted: float) -> bool:
        """Whether a value is as good as wanted."""
        return is_met(value, wanted, is_less_better=self.is_less_better)

    def shown(self, value: float) -> str:
        """Return a value as text."""
        return f"{value:,.{self.decimals}f}{self.unit}"


@dataclass(frozen=True, slots=True)
class Judged:
    """A demand beside what was measured; `value` None: not in this run."""

    demand: Demand
    value: float | None

    @property
    def verdict(self) -> str:
        """The word for it."""
        if self.value is None:
            return NOT_MEASURED
        demand = self.demand
        return verdict_of(
            self.value,
            bound=demand.bound,
            aim=demand.aim,
            is_less_better=demand.is_less_better,
        )


def judge(result: BenchResult) -> list[Judged]:
    """Return every demand with its value; a quick run's figures mean nothing, so it has none."""
    is_quick = result.circumstances.get("is_quick", False)
    return [Judged(demand, None if is_quick else demand.value(result)) for demand in DEMANDS]


def judge_all(results: Sequence[BenchResult]) -> list[Judged]:
    """Return every demand once, with its value in the first result that measured it."""
    return [
        next((one for one in judged if one.value is not None), judged[0])
        for judged in zip(*map(judge, results), strict=True)
    ]


def best_of(result: BenchResult, case: str, prefix: str, metric: str) -> float | None:
    """Return the best median of the contestants whose names begin so: a rival at its best."""
    medians = [
        result.median(case, one, metric)
        for one in result.contestants(case)
        if one.startswith(prefix)
    ]
    return max((one for one in medians if one is not None), default=None)


def rival_prefix(rival: str, pattern: str) -> str:
    """Return how a rival's contestants with a pattern of wallets begin, however tuned."""
    return f"{rival}, {pattern}, "


def _divided(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def _drain_over(contestant: str, *, rival: str, pattern: str | None = None) -> Value:
    prefix = rival if pattern is None else rival_prefix(rival, pattern)
    return lambda result: _divided(
        result.median(names.DRAIN, contestant, _RATE),
        best_of(result, names.DRAIN, prefix, _RATE),
    )


def _drains(above: str, below: str) -> Value:
    return lambda result: _divided(
        result.median(names.DRAIN, above, _RATE), result.median(names.DRAIN, below, _RATE)
    )


def saturating(result: BenchResult) -> str | None:
    """Return the number of connections with which most was completed, as its contestant's name."""
    rates = {
        one: rate
        for one in result.contestants(names.END_TO_END)
        if (rate := result.median(names.END_TO_END, one, "completed_per_s")) is not None
    }
    return max(rates, key=lambda one: rates[one], default=None)


def _at_saturation(metric: str) -> Value:
    def value(result: BenchResult) -> float | None:
        contestant = saturating(result)
        return None if contestant is None else result.median(names.END_TO_END, contestant, metric)

    return value


def _latency(metric: str) -> Value:
    return lambda result: result.median(names.LATENCY, names.at_rate(200), metric)


def _status(result: BenchResult) -> float | None:
    return _divided(
        result.median(names.STATUS, names.GATHERED, "requests_per_s"),
        result.median(names.STATUS, names.ONE_QUERY_EACH, "requests_per_s"),
    )


def _growth(result: BenchResult) -> float | None:
    steps = result.contestants(names.GROWTH)
    if len(steps) < 2:  # noqa: PLR2004  # a ratio takes two
        return None
    return _divided(
        result.median(names.GROWTH, steps[-1], _RATE), result.median(names.GROWTH, steps[0], _RATE)
    )


def _processor_memory(result: BenchResult) -> Iterable[float]:
    for one in result.contestants(names.MEMORY):
        found = result.median(names.MEMORY, one, "memory_mb")
        if one.startswith(names.PROCESSOR_AFTER) and found is not None:
            yield found


def _memory(result: BenchResult) -> float | None:
    return max(_processor_memory(result), default=None)


def _memory_growth(result: BenchResult) -> float | None:
    found = list(_processor_memory(result))
    return _divided(found[-1], found[0]) if len(found) > 1 else None


def _proving(command: str, metric: str) -> Value:
    return lambda result: result.median(names.PROOFS, command, metric)


def _export_memory(result: BenchResult) -> float | None:
    exports = [one for one in names.PROVING if one != names.VERIFY]
    found = [result.median(names.PROOFS, one, "memory_mb") for one in exports]
    return max((one for one in found if one is not None), default=None)


def _in_ms(what: str, *, bound: float, aim: float, value: Value) -> Demand:
    return Demand(
        what=what,
        bound=bound,
        aim=aim,
        value=value,
        is_less_better=True,
        decimals=1,
        unit=" ms",
    )


_SINGLES_UNIFORM: Final = names.of(names.SINGLES, names.UNIFORM)
_REFUSING: Final = names.of(names.RECORDED, names.REFUSALS)

DEMANDS: Final = (
    Demand(
        what="drain, batch messages ÷ pgbench TPC-B best",
        bound=5,
        aim=8,
        value=_drain_over(_DRAINED, rival=names.PGBENCH),
    ),
    Demand(
        what="drain, single messages ÷ pgbench TPC-B best",
        bound=3,
        aim=4.5,
        value=_drain_over(_SINGLES_UNIFORM, rival=names.PGBENCH),
    ),
    Demand(
        what="one hot wallet ÷ uniform", bound=0.95, aim=1.1, value=_drains(_DRAINED_HOT, _DRAINED)
    ),
    Demand(what="30 % refusals ÷ none", bound=0.8, aim=1, value=_drains(_REFUSING, _DRAINED)),
    *(
        Demand(
            what=f"drain, batch messages ÷ {rival}",
            bound=bound,
            aim=2 * bound,
            value=_drain_over(_DRAINED, rival=rival, pattern=names.UNIFORM),
            decimals=1,
        )
        for rival, bound in ((names.AIO_PIKA, 15), (names.FASTSTREAM, 20), (names.CELERY, 30))
    ),
    Demand(
        what=f"one hot wallet ÷ {names.AIO_PIKA}, one hot wallet",
        bound=40,
        aim=70,
        value=_drain_over(_DRAINED_HOT, rival=names.AIO_PIKA, pattern=names.HOT),
        decimals=1,
    ),
    Demand(
        what="end to end, single POSTs: COMPLETED",
        bound=8_000,
        aim=12_000,
        value=_at_saturation("completed_per_s"),
        decimals=0,
        unit="/s",
    ),
    _in_ms("end to end, single POSTs: POST p99", bound=50, aim=30, value=_at_saturation("p99_ms")),
    Demand(
        what="batch submit of 500: transfers accepted",
        bound=40_000,
        aim=80_000,
        value=lambda result: result.median(names.SUBMIT, names.BATCH_OF_500, "accepted_per_s"),
        decimals=0,
        unit="/s",
    ),
    _in_ms("POST → COMPLETED at 200/s: p50", bound=5, aim=2.5, value=_latency("p50_ms")),
    _in_ms("POST → COMPLETED at 200/s: p99", bound=15, aim=5, value=_latency("p99_ms")),
    Demand(what="GET status ÷ one query per request", bound=1.5, aim=2, value=_status),
    Demand(
        what="drain after the longest history ÷ the shortest", bound=0.75, aim=0.9, value=_growth
    ),
    Demand(
        what="four processors on four queues ÷ one on the same",
        bound=0.9,
        aim=1,
        value=lambda result: _divided(
            result.median(names.PARTITIONS, names.FOUR_QUEUES, _RATE),
            result.median(names.PARTITIONS, names.ONE_FOR_FOUR, _RATE),
        ),
    ),
    Demand(
        what="processor memory after 1 M transactions",
        bound=110,
        aim=90,
        value=_memory,
        is_less_better=True,
        decimals=0,
        unit=" MB",
    ),
    Demand(
        what="processor memory after all ÷ after the first quarter",
        bound=1.1,
        aim=1.02,
        value=_memory_growth,
        is_less_better=True,
    ),
    Demand(
        what="verify with the chain of seals: entries",
        bound=250_000,
        aim=400_000,
        value=lambda result: result.median(names.PROOFS, names.VERIFY, "entries_per_s"),
        decimals=0,
        unit="/s",
    ),
    *(
        Demand(
            what=f"{command}: transactions",
            bound=100_000,
            aim=150_000,
            value=_proving(command, _RATE),
            decimals=0,
            unit="/s",
        )
        for command in (names.EXPORT_HLEDGER, names.EXPORT_CSV)
    ),
    Demand(
        what="memory of any export of 1 M transactions",
        bound=150,
        aim=75,
        value=_export_memory,
        is_less_better=True,
        decimals=0,
        unit=" MB",
    ),
)
