"""What many measurements come to."""

import pytest

from tools.bench.statistics import Spread, quantile, spread_of


def test_a_spread_is_the_middle_and_both_ends() -> None:
    assert spread_of([3.0, 1.0, 8.0]) == Spread(median=3.0, least=1.0, most=8.0)


def test_the_middle_of_two_lies_between_them() -> None:
    assert spread_of([1.0, 2.0]).median == 1.5


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)]
)
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert quantile(range(1, 101), share) == expected


def test_the_p99_of_few_values_is_the_worst_of_them() -> None:
    assert quantile([1.0, 2.0, 30.0], 0.99) == 30.0
