"""Expected against observed: every count that a scenario promises, line by line. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tools.scenario.driving import Observation
from tools.scenario.model import Expectation
from tools.scenario.poison import bad_requests, poison_messages
from tools.scenario.steps import DOORS

_REUSED = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Line:
    """One count at one door: what it had to be, and what it was."""

    door: str
    what: str
    expected: int
    actual: int

    @property
    def is_right(self) -> bool:
        """Whether they are equal."""
        return self.expected == self.actual


def compare(expected: Expectation, seen: Observation) -> list[Line]:
    """Return every line; a name that stands on one side only counts as 0 on the other."""
    lines: list[Line] = []
    for door in DOORS:
        lines.extend(_lines(door, expected.outcomes[door], seen.outcomes.get(door, Counter())))
        kinds, holds = seen.kinds.get(door, Counter()), seen.holds.get(door, Counter())
        lines.extend(_lines(door, expected.kinds[door], kinds, "type: "))
        lines.extend(_lines(door, expected.holds[door], holds, "hold: "))
    lines.append(Line("http", "replays", expected.replays["http"], seen.http_replays))
    problems = Counter(str(one.code) for one in bad_requests())
    problems[_REUSED] += expected.reused["http"]
    lines.extend(_lines("http", problems, seen.http_problems, "refused: "))
    # What AMQP confirmed and what became neither a transaction nor a dead letter, is a replay.
    new = seen.outcomes.get("amqp", Counter()).total()
    replays = seen.submitted["amqp"] - new - seen.dead_letters[_REUSED]
    lines.append(Line("amqp", "replays", expected.replays["amqp"], replays))
    letters = Counter(str(one.reason) for one in poison_messages())
    letters[_REUSED] += expected.reused["amqp"]
    lines.extend(_lines("amqp", letters, seen.dead_letters, "dead letter: "))
    return lines


def wrong_balances(expected: Expectation, seen: Observation) -> list[str]:
    """Return the wallets whose balance, or what is held of it, is not the model's."""
    return sorted(
        name
        for name, minor in expected.balances.items()
        if (seen.balances.get(name), seen.held.get(name)) != (minor, expected.held[name])
    )


def _lines(
    door: str, expected: Counter[str], actual: Counter[str], prefix: str = ""
) -> Iterator[Line]:
    for name in sorted({*expected, *actual}, key=lambda one: (-expected[one], one)):
        yield Line(door, prefix + name, expected[name], actual[name])
