"""Bursts come at once and whole; sequences debit one wallet, again and again."""

from itertools import islice

from tests.tools.chaos.test_plan import WALLETS
from tools.chaos.journal import Door
from tools.chaos.load.pressure import burst_steps, sequence_steps
from tools.chaos.pressure import Pressure

_PRESSURE = Pressure(burst=250, burst_interval_s=2.0)


def test_a_burst_is_as_large_as_asked_for_and_due_at_one_moment() -> None:
    transactions: dict[float, int] = {}
    steps = burst_steps(seed=1, wallets=WALLETS, pressure=_PRESSURE, key_prefix="b-")
    for step in steps:
        if step.at_s > 10:
            break
        transactions[step.at_s] = transactions.get(step.at_s, 0) + len(step.items)

    assert transactions == {1.0: 250, 3.0: 250, 5.0: 250, 7.0: 250, 9.0: 250}


def test_a_burst_comes_through_both_doors_in_many_messages_and_waits_for_nothing() -> None:
    steps = list(
        islice(burst_steps(seed=1, wallets=WALLETS, pressure=_PRESSURE, key_prefix="b-"), 60)
    )

    assert {step.door for step in steps} == set(Door)
    assert {len(step.items) == 1 for step in steps} == {True, False}
    assert not any(step.waits for step in steps)
    keys = [item.key for step in steps for item in step.items]
    assert len(set(keys)) == len(keys)


def test_without_a_burst_there_is_none() -> None:
    steps = burst_steps(seed=1, wallets=WALLETS, pressure=Pressure(), key_prefix="b-")

    assert list(steps) == []


def test_a_sequence_debits_one_hot_wallet_and_waits_for_each_answer() -> None:
    steps = list(
        islice(
            sequence_steps(seed=1, number=2, wallets=WALLETS, pressure=_PRESSURE, key_prefix="s-"),
            100,
        )
    )

    assert {wallet for step in steps for wallet in step.debited} == {WALLETS.hot[2]}
    assert all(step.waits for step in steps)
    assert {step.door for step in steps} == set(Door)
