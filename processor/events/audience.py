"""Which events somebody receives, as one round of the relay finds out; pure.

The first event of each routing key is published as mandatory and comes back where no queue takes
it: then the others of that key are neither built nor sent in this round. All of a round's events
were committed before it asked, so a binding that was made before their commit is seen, and one that
is made later may lawfully miss them. A queue behind an alternate exchange counts as any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Final, NamedTuple

from processor.events.messages import Stretch
from processor.events.owed import Owed

QUESTIONS_MAX: Final = 32
"""Keys that a round asks about, each with a wait for the broker; all others count as heard."""


class Step(NamedTuple):
    """The next of a flight: what is published, what nobody receives, and what comes after it."""

    heard: list[Stretch]
    unheard: list[Owed]
    asks: str | None
    """The routing key that the last event of `heard` asks about."""
    rest: Sequence[Stretch]


class Audience:
    """What one round knows of its routing keys."""

    def __init__(self) -> None:
        self._is_heard: dict[str, bool] = {}

    def note(self, routing_key: str, *, is_heard: bool) -> None:
        """Take the broker's answer."""
        self._is_heard[routing_key] = is_heard

    def is_none(self, routing_keys: Iterable[str]) -> bool:
        """Whether it is known that nobody receives anything under these keys."""
        return not any(self._is_heard.get(key, True) for key in routing_keys)

    def step(self, stretches: Sequence[Stretch]) -> Step:
        """Divide a flight behind the first event of a key that was not asked about yet."""
        now, asks, rest = self._up_to_unknown(stretches)
        heard: list[Stretch] = []
        unheard: list[Owed] = []
        for stretch in now:
            _divide(stretch, self._is_heard, heard, unheard)
        return Step(heard, unheard, asks, rest)

    def _up_to_unknown(
        self, stretches: Sequence[Stretch]
    ) -> tuple[Sequence[Stretch], str | None, Sequence[Stretch]]:
        known = self._is_heard
        if len(known) < QUESTIONS_MAX:
            for number, stretch in enumerate(stretches):
                for at, key in enumerate(stretch.keys):
                    if key is not None and key not in known:
                        first, second = stretch.cut(at + 1)
                        rest = [second, *stretches[number + 1 :]]
                        return [*stretches[:number], first], key, rest
        return stretches, None, ()


def _divide(
    stretch: Stretch, is_heard: Mapping[str, bool], heard: list[Stretch], unheard: list[Owed]
) -> None:
    """Put each event of a stretch where it belongs; one without a key is for whoever builds it."""
    flags = [key is None or is_heard.get(key, True) for key in stretch.keys]
    if all(flags):
        heard.append(stretch)
    elif not any(flags):
        unheard.append(stretch.owed)
    else:
        heard.append(stretch.select(list(compress(range(len(flags)), flags))))
        others = [not flag for flag in flags]
        unheard.append(stretch.select(list(compress(range(len(flags)), others))).owed)
