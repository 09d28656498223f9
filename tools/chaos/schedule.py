"""The schedule of a chaos run: which fault strikes when. Pure: same arguments, same plan."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

CALM_FIRST_S: Final = 3.0
"""Before the first fault everybody works, so that something is in flight when it strikes."""
PAUSE_LEAST_S: Final = 5.0
PAUSE_MOST_S: Final = 9.0
"""From the end of a fault to the next one: it is recovered from first, as far as that is quick."""
_STRETCH_LEAST: Final = 0.6
_STRETCH_MOST: Final = 1.4


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault strikes at `at_s` after the start, and is healed `lasting_s` after it struck."""

    at_s: float
    name: str
    lasting_s: float
    target: str | None = None

    @property
    def label(self) -> str:
        """Its name and target, as the command line takes them."""
        return self.name if self.target is None else f"{self.name}:{self.target}"


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a fault takes to strike, how long it lasts then, and where it may strike."""

    striking_s: float
    lasting_s: float
    targets: tuple[str, ...] = ()


def plan_faults(
    *, seed: int, seconds: float, durations: Mapping[str, Duration]
) -> list[PlannedFault]:
    """Return what strikes in a run of so many seconds; `durations` names the faults there are.

    Every fault comes round before one comes again; at least one strikes, however short the run.
    """
    chance = random.Random(seed)
    names = _rounds(chance, sorted(durations))
    planned: list[PlannedFault] = []
    at_s = chance.uniform(CALM_FIRST_S, CALM_FIRST_S + 1.0)
    for name in names:
        duration = durations[name]
        lasting_s = duration.lasting_s * chance.uniform(_STRETCH_LEAST, _STRETCH_MOST)
        over_s = at_s + duration.striking_s + lasting_s
        if planned and over_s > seconds - PAUSE_LEAST_S / 2:
            break
        target = chance.choice(duration.targets) if duration.targets else None
        planned.append(PlannedFault(round(at_s, 1), name, round(lasting_s, 1), target))
        at_s = over_s + chance.uniform(PAUSE_LEAST_S, PAUSE_MOST_S)
    return planned


def _rounds(chance: random.Random, names: list[str]) -> Iterator[str]:
    """Deal the names in rounds, each in an order of its own."""
    while names:
        yield from chance.sample(names, len(names))
