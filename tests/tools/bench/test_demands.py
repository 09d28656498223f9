"""Demands: ratios of medians, rivals at their best, and no verdict without a measurement."""

from tests.tools.bench.results import result_of
from tools.bench.cases import names
from tools.bench.demands import DEMANDS, best_of, judge, rival_prefix
from tools.bench.result import BenchResult

_DRAINED = names.of(names.RECORDED, names.UNIFORM)


def _verdict(result: BenchResult, what: str) -> tuple[float | None, str]:
    [judged] = [one for one in judge(result) if one.demand.what == what]
    return judged.value, judged.verdict


def _against_pgbench(ours: float, **theirs: float) -> tuple[float | None, str]:
    rivals = {f"{names.PGBENCH}, {name}": [value] for name, value in theirs.items()}
    result = result_of(names.DRAIN, **{_DRAINED: [ours]}, **rivals)
    return _verdict(result, "drain, batch messages ÷ pgbench TPC-B best")


def test_the_best_of_a_rival_s_tunings_counts() -> None:
    assert _against_pgbench(10_000.0, four=500.0, eight=2_000.0, sixteen=900.0)[0] == 5.0


def test_verdicts_tell_the_demand_from_the_aim() -> None:
    assert _against_pgbench(4_990.0, four=1_000.0)[1] == "not met"
    assert _against_pgbench(5_000.0, four=1_000.0)[1] == "met"
    assert _against_pgbench(8_000.0, four=1_000.0)[1] == "aim met"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert _against_pgbench(4_000.0) == (None, "not measured")
    assert {one.verdict for one in judge(BenchResult())} == {"not measured"}


def test_a_quick_run_meets_no_demand() -> None:
    result = result_of(names.DRAIN, **{_DRAINED: [9_000.0], f"{names.PGBENCH}, 4": [1.0]})
    assert judge(result)[0].verdict == "aim met"

    result.circumstances["is_quick"] = True
    assert judge(result)[0].verdict == "not measured"


def test_medians_are_compared_and_not_the_luckiest_runs() -> None:
    hot = names.of(names.RECORDED, names.HOT)
    result = result_of(names.DRAIN, **{_DRAINED: [90.0, 100.0, 400.0], hot: [99.0, 100.0, 1.0]})

    assert _verdict(result, "one hot wallet ÷ uniform") == (0.99, "met")


def test_a_rival_s_hot_wallet_is_no_tuning_of_its_uniform_spread() -> None:
    uniform = f"{rival_prefix(names.AIO_PIKA, names.UNIFORM)}prefetch 16"
    hot = f"{rival_prefix(names.AIO_PIKA, names.HOT)}prefetch 16"
    result = result_of(names.DRAIN, **{uniform: [100.0], hot: [900.0]})

    prefix = rival_prefix(names.AIO_PIKA, names.UNIFORM)
    assert best_of(result, names.DRAIN, prefix, "transactions_per_s") == 100.0


def test_latency_and_rate_at_saturation_are_of_one_and_the_same_contestant() -> None:
    result = BenchResult()
    result.note(names.END_TO_END, "64", {"completed_per_s": 7_000.0, "p99_ms": 10.0})
    result.note(names.END_TO_END, "200", {"completed_per_s": 9_000.0, "p99_ms": 60.0})

    assert _verdict(result, "end to end, single POSTs: COMPLETED") == (9_000.0, "met")
    assert _verdict(result, "end to end, single POSTs: POST p99") == (60.0, "not met")


def test_memory_is_judged_at_its_most_and_by_its_growth() -> None:
    result = BenchResult()
    result.note(names.MEMORY, "processor, idle", {"memory_mb": 500.0})
    result.note(names.MEMORY, f"{names.PROCESSOR_AFTER} 1", {"memory_mb": 80.0})
    result.note(names.MEMORY, f"{names.PROCESSOR_AFTER} 2", {"memory_mb": 100.0})

    assert _verdict(result, "processor memory after 1 M transactions") == (100.0, "met")
    growth = "processor memory after all ÷ after the first quarter"
    assert _verdict(result, growth) == (1.25, "not met")


def test_growth_compares_the_longest_history_with_the_shortest() -> None:
    result = result_of(names.GROWTH, short=[100.0], middle=[90.0], long=[80.0])

    what = "drain after the longest history ÷ the shortest"
    assert _verdict(result, what) == (0.8, "met")


def test_every_demand_of_a_kind_says_something_else() -> None:
    assert len({demand.what for demand in DEMANDS}) == len(DEMANDS)
