"""What bench and `make compare` start by name is there, without the rivals' libraries too."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tools.bench.contestants import CONTESTANTS, Contestant
from tools.bench.trees import SAMPLERS

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda one: one.name)
def test_the_program_of_a_rival_is_in_the_checkout(contestant: Contestant) -> None:
    words = contestant.rival.arguments(contestant.tuning)
    (program,) = (word for word in words if "." in word and not word.startswith("-"))

    found = find_spec(program)

    assert found is not None
    assert Path(str(found.origin)).is_relative_to(_ROOT)


def test_this_checkout_has_its_sampler_in_the_first_place_that_is_looked_at() -> None:
    assert (_ROOT / SAMPLERS[0]).is_file()
