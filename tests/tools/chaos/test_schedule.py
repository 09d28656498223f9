"""The schedule: seeded, fair, and with room between the faults."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.failures import UsageError
from tools.chaos.faults.catalogue import FAULTS, chosen
from tools.chaos.schedule import CALM_FIRST_S, PAUSE_LEAST_S, Duration, plan_faults

_FEW = {
    "a": Duration(0.0, 1.0),
    "b": Duration(0.5, 2.0),
    "c": Duration(9.0, 0.0),
    "d": Duration(0.5, 6.0),
    "e": Duration(0.0, 3.0),
}
_ALL = {
    fault.name: Duration(fault.striking_s, fault.lasting_s, tuple(sorted(fault.targets)))
    for fault in FAULTS
}

seeds = st.integers(0, 1_000_000)


@given(seeds, st.floats(6, 600))
def test_the_same_seed_is_the_same_plan(seed: int, seconds: float) -> None:
    backwards = dict(reversed(_ALL.items()))

    assert plan_faults(seed=seed, seconds=seconds, durations=_ALL) == plan_faults(
        seed=seed, seconds=seconds, durations=backwards
    )


def test_other_seeds_are_other_plans() -> None:
    plans = {
        tuple(one.name for one in plan_faults(seed=seed, seconds=30, durations=_ALL))
        for seed in range(50)
    }

    assert len(plans) > 40


@given(seeds, st.floats(60, 600))
def test_every_fault_comes_round_before_one_comes_again(seed: int, seconds: float) -> None:
    names = [one.name for one in plan_faults(seed=seed, seconds=seconds, durations=_FEW)]
    rounds = [names[start : start + 5] for start in range(0, len(names), 5)]

    assert all(len(set(one)) == len(one) for one in rounds)
    assert all(set(one) == _FEW.keys() for one in rounds[:-1])


@given(seeds)
def test_one_to_four_faults_strike_in_half_a_minute(seed: int) -> None:
    assert 1 <= len(plan_faults(seed=seed, seconds=30, durations=_ALL)) <= 4


def test_mostly_two_or_three_faults_strike_in_half_a_minute() -> None:
    counts = [len(plan_faults(seed=seed, seconds=30, durations=_ALL)) for seed in range(100)]

    assert sum(count in {2, 3} for count in counts) > 70


@given(seeds, st.floats(6, 600))
def test_a_fault_is_over_before_the_next_one_and_before_the_end(seed: int, seconds: float) -> None:
    plan = plan_faults(seed=seed, seconds=seconds, durations=_FEW)

    assert plan[0].at_s >= CALM_FIRST_S
    for earlier, later in pairwise(plan):
        over_s = earlier.at_s + _FEW[earlier.name].striking_s + earlier.lasting_s
        assert later.at_s - over_s > PAUSE_LEAST_S - 0.2
    for one in plan[1:]:
        assert one.at_s + _FEW[one.name].striking_s + one.lasting_s < seconds


def test_without_a_fault_nothing_is_planned() -> None:
    assert plan_faults(seed=1, seconds=30, durations={}) == []


def test_a_lonely_fault_strikes_again_and_again() -> None:
    plan = plan_faults(seed=1, seconds=120, durations={"only": Duration(0.5, 1.0)})

    assert {one.name for one in plan} == {"only"}
    assert len(plan) > 5


def test_every_target_of_a_fault_is_struck_in_the_end() -> None:
    only = {"only": Duration(0.5, 1.0, ("a", "b", "c"))}

    plan = plan_faults(seed=1, seconds=300, durations=only)

    assert {one.target for one in plan} == {"a", "b", "c"}
    assert {one.label for one in plan} == {"only:a", "only:b", "only:c"}


def test_a_fault_can_be_asked_for_at_some_of_its_targets() -> None:
    [cut, killed] = chosen(
        ["link-cut:ingress-rabbitmq", "link-cut:processor-postgres", "broker-killed"]
    )

    assert set(cut.targets) == {"ingress-rabbitmq", "processor-postgres"}
    assert killed.targets == {}


@pytest.mark.parametrize("name", ["unheard-of", "link-cut:nowhere", "broker-killed:here"])
def test_an_unknown_fault_or_target_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError):
        chosen([name])


def test_every_fault_strikes_at_its_targets_or_has_one_strike() -> None:
    for fault in FAULTS:
        assert (fault.strike is None) == bool(fault.targets)
        for target in fault.targets or [None]:
            assert callable(fault.strike_at(target))


def test_every_fault_has_a_name_of_its_own_and_a_claim() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.claim and fault.recovery_bound_s > 0 for fault in FAULTS)
