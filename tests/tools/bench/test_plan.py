"""What is laid: transfers of each pattern, and rounds of history that never pay themselves."""

from collections import Counter
from itertools import permutations
from uuid import UUID

import pytest

from cli.failures import UsageError
from tools.bench.cases import names
from tools.bench.cases.catalogue import CASES, chosen
from tools.bench.cases.growth import shift_of
from tools.bench.contestants import CONTESTANTS
from tools.bench.demands import rival_prefix
from tools.bench.laying import Pattern, Wallets, in_groups, plan_transfers
from tools.bench.options import FULL, QUICK, BenchOptions
from tools.bench.pgbench import parse_tps

_WALLETS = Wallets([UUID(int=n) for n in range(50)], [UUID(int=n) for n in range(100, 120)])


@pytest.mark.parametrize("pattern", Pattern)
def test_money_moves_between_two_wallets_under_a_key_of_its_own(pattern: Pattern) -> None:
    transfers = list(plan_transfers(_WALLETS, pattern, 2_000, seed=1))

    assert all(one.source != one.destination for one in transfers)
    assert len({one.key for one in transfers}) == 2_000
    assert {one.destination for one in transfers} <= set(_WALLETS.rich)


def test_the_hot_wallet_is_in_every_transfer() -> None:
    transfers = plan_transfers(_WALLETS, Pattern.HOT, 500, seed=2)

    assert {one.source for one in transfers} == {_WALLETS.rich[0]}


def test_three_in_ten_come_from_wallets_that_cannot_pay() -> None:
    transfers = plan_transfers(_WALLETS, Pattern.REFUSALS, 5_000, seed=3)
    poor = sum(one.source in _WALLETS.poor for one in transfers)

    assert poor / 5_000 == pytest.approx(0.3, abs=0.03)


def test_a_uniform_spread_uses_every_wallet_alike() -> None:
    sources = Counter(
        one.source for one in plan_transfers(_WALLETS, Pattern.UNIFORM, 10_000, seed=4)
    )

    assert set(sources) == set(_WALLETS.rich)
    assert max(sources.values()) < 2 * min(sources.values())


@pytest.mark.parametrize(("pattern", "exponent"), [(Pattern.ZIPF_1, 1.0), (Pattern.ZIPF_2, 2.0)])
def test_by_zipf_s_law_the_wallet_of_rank_n_pays_as_often_as_it_says(
    pattern: Pattern, exponent: float
) -> None:
    sources = Counter(one.source for one in plan_transfers(_WALLETS, pattern, 40_000, seed=5))
    shares = [count / 40_000 for _, count in sources.most_common(5)]
    total = sum(rank**-exponent for rank in range(1, len(_WALLETS.rich) + 1))

    expected = [rank**-exponent / total for rank in range(1, 6)]
    assert shares == pytest.approx(expected, rel=0.15)


def test_the_most_used_wallets_by_zipf_s_law_are_no_neighbours() -> None:
    transfers = plan_transfers(_WALLETS, Pattern.ZIPF_2, 20_000, seed=6)
    ranked = [one for one, _ in Counter(one.source for one in transfers).most_common(5)]

    assert ranked != sorted(ranked)
    assert set(ranked) != set(_WALLETS.rich[:5])


def test_no_pattern_of_wallets_is_taken_for_another_by_how_its_name_begins() -> None:
    prefixes = [rival_prefix(names.AIO_PIKA, pattern) for pattern in Pattern]

    assert not [pair for pair in permutations(prefixes, 2) if pair[0].startswith(pair[1])]


def test_zipf_s_law_and_its_uniform_counterpart_spread_over_ten_times_the_wallets() -> None:
    for sizes in (FULL, QUICK):
        assert sizes.many_wallets == 10 * sizes.wallets
    wide = {pattern for pattern in Pattern if pattern.is_among_many}
    assert wide == {Pattern.WIDE, Pattern.ZIPF_1, Pattern.ZIPF_2}


@pytest.mark.parametrize("wallets", [2, 500, 10_000, 1_000_000])
def test_no_round_of_history_sends_a_wallet_its_own_money(wallets: int) -> None:
    assert all(0 < shift_of(number, wallets) < wallets for number in range(200))


def test_every_step_of_growth_is_whole_rounds_of_transfers() -> None:
    for sizes in (FULL, QUICK):
        assert all(transactions % wallets == 0 for transactions, wallets in sizes.growth)
        assert len(sizes.latency_rates) == len(FULL.latency_rates)


def test_groups_hold_every_item_once_and_in_order() -> None:
    assert [list(group) for group in in_groups([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]


def test_cases_are_chosen_by_name_and_keep_their_order() -> None:
    assert [case.name for case in chosen(["latency", "drain"])] == ["drain", "latency"]
    assert chosen([]) == list(CASES)


def test_an_unknown_case_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="no case 'speed'"):
        chosen(["drain", "speed"])


def test_a_quick_run_is_the_same_cases_in_small() -> None:
    options = {"directory": None, "runs": 2, "processors": 2}
    quick, full = (
        BenchOptions(is_quick=is_quick, **options)  # type: ignore[arg-type]
        for is_quick in (True, False)
    )

    assert [case.samples(quick) for case in CASES] == [case.samples(full) for case in CASES]


def test_each_tuning_of_a_rival_is_a_contestant_of_its_own() -> None:
    assert len({one.name for one in CONTESTANTS}) == len(CONTESTANTS)


def test_the_rate_that_pgbench_reports_leaves_connecting_out() -> None:
    output = "latency average = 1.4 ms\ntps = 5512.402 (without initial connection time)\n"

    assert parse_tps(output) == 5512.402
