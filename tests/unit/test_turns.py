"""Those who are refused a login are told to come back one after the other."""

from ingress.people.passwords import TURN_MOST_S, Turns


def test_a_thousand_are_not_told_the_same_second() -> None:
    turns = Turns(per_s=40)
    told = [turns.after(64, 100.0) for _ in range(1000)]

    # Behind the 64 that wait, the last of a thousand has its turn after more than 20 s.
    assert min(told) >= 2
    assert max(told) <= TURN_MOST_S
    assert max(told.count(one) for one in set(told)) < 100
    assert sum(told[:100]) < sum(told[-100:])


def test_whoever_comes_later_does_not_wait_for_turns_that_are_over() -> None:
    turns = Turns(per_s=40)
    for _ in range(1000):
        turns.after(64, 100.0)

    assert turns.after(64, 200.0) <= 4
