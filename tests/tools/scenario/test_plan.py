"""The scenario's plan and model: the same for the same seed, whatever the doors' timing."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.scenario.driving import Observation
from tools.scenario.model import COMPLETED, Expectation, expectation_of
from tools.scenario.plan import make_plan
from tools.scenario.poison import bad_requests, poison_messages
from tools.scenario.steps import DOORS, KINDS, Plan, Round, Step
from tools.scenario.verdict import compare, wrong_balances

OF_TERMS = (
    "reversed",
    "cancelled",
    "expired",
    "condition_failed",
    "batch_failed",
    "hold_not_found",
    "hold_closed",
    "hold_expired",
    "amount_exceeds_hold",
    "transaction_not_found",
    "already_reversed",
    "not_reversible",
    "amount_exceeds_reversible",
)
SEEDS = st.integers(min_value=0, max_value=2**32)


def plan_of(seed: int, transactions: int = 400) -> Plan:
    return make_plan(seed=seed, transactions=transactions, key_prefix="t-")


def interleaved(plan: Plan, chance: random.Random) -> Plan:
    """The same plan as the doors may really interleave it: each wallet's own order is kept."""
    rounds = []
    for moment in plan.rounds:
        mixed = Round(batches=moment.batches)
        for door in DOORS:
            queues: dict[str, list[Step]] = {}
            for step in moment.steps[door]:
                queues.setdefault(step.ordered_by, []).append(step)
            while queues:
                name = chance.choice(sorted(queues))
                mixed.steps[door].append(queues[name].pop(0))
                if not queues[name]:
                    del queues[name]
        rounds.append(mixed)
    return Plan(plan.wallets, rounds)


def test_a_seed_is_one_scenario_and_another_seed_another() -> None:
    assert plan_of(1) == plan_of(1)
    assert plan_of(1) != plan_of(2)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS)
def test_no_interleaving_of_the_wallets_changes_what_it_comes_to(seed: int, order: int) -> None:
    plan = plan_of(seed)

    assert expectation_of(interleaved(plan, random.Random(order))) == expectation_of(plan)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_every_kind_of_outcome_is_in_every_scenario_at_both_doors(seed: int) -> None:
    expected = expectation_of(plan_of(seed, transactions=2000))

    for door in DOORS:
        assert set(expected.outcomes[door]) == {
            COMPLETED,
            "insufficient_funds",
            "wallet_not_found",
            "wallet_frozen",
            "wallet_closed",
            "currency_mismatch",
            "same_wallet",
            "not_permitted",
            *OF_TERMS,
        }
        assert set(expected.kinds[door]) == set(KINDS)
        assert set(expected.holds[door]) == {"open", "captured", "released", "expired"}
        assert expected.replays[door] > 0
        assert expected.reused[door] > 0
    overdrawn = {name for name, minor in expected.balances.items() if minor < 0}
    assert {name.partition("-")[0] for name in overdrawn} <= {"forced", "exchange"}
    assert min(expected.held.values()) == 0
    assert sum(expected.held.values()) > 0


@pytest.mark.parametrize("transactions", [300, 5000])
def test_a_scenario_has_about_as_many_transactions_as_asked(transactions: int) -> None:
    expected = expectation_of(plan_of(3, transactions))

    assert transactions <= expected.new <= transactions * 1.1 + 60


def as_expected(expected: Expectation) -> Observation:
    """What a faultless run of an expectation shows."""
    letters = Counter(str(one.reason) for one in poison_messages())
    letters["idempotency_key_reused"] += expected.reused["amqp"]
    problems = Counter(str(one.code) for one in bad_requests())
    problems["idempotency_key_reused"] += expected.reused["http"]
    submitted = {
        door: expected.outcomes[door].total() + expected.replays[door] + expected.reused[door]
        for door in DOORS
    }
    return Observation(
        submitted=Counter(submitted),
        outcomes={door: Counter(expected.outcomes[door]) for door in DOORS},
        http_replays=expected.replays["http"],
        http_problems=problems,
        dead_letters=letters,
        kinds={door: Counter(expected.kinds[door]) for door in DOORS},
        holds={door: Counter(expected.holds[door]) for door in DOORS},
        balances=dict(expected.balances),
        held=dict(expected.held),
    )


def test_a_faultless_run_differs_in_nothing() -> None:
    expected = expectation_of(plan_of(5))
    seen = as_expected(expected)

    assert all(line.is_right for line in compare(expected, seen))
    assert wrong_balances(expected, seen) == []


def test_one_transaction_too_few_one_twice_and_one_cent_are_each_seen() -> None:
    expected = expectation_of(plan_of(5))
    lost, doubled, cent, kept = (as_expected(expected) for _ in range(4))
    lost.outcomes["http"][COMPLETED] -= 1
    doubled.outcomes["amqp"][COMPLETED] += 1
    cent.balances["busy-USD-0"] += 1
    kept.held["holds-http-0"] += 1

    assert [one.what for one in compare(expected, lost) if not one.is_right] == [COMPLETED]
    assert {one.what for one in compare(expected, doubled) if not one.is_right} == {
        COMPLETED,
        "replays",
    }
    assert wrong_balances(expected, cent) == ["busy-USD-0"]
    assert wrong_balances(expected, kept) == ["holds-http-0"]


def test_an_outcome_that_nobody_expects_is_seen() -> None:
    expected = expectation_of(plan_of(5))
    seen = as_expected(expected)
    seen.outcomes["amqp"]["quarantined"] += 1
    seen.dead_letters["delivery_limit"] += 1

    wrong = {line.what for line in compare(expected, seen) if not line.is_right}

    assert {"quarantined", "dead letter: delivery_limit"} <= wrong
