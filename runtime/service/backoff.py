"""Waiting between tries: exponential with jitter, so that processes never march in step."""

import random
from typing import Final

_RANDOM: Final = random.SystemRandom()


class Backoff:
    """Delays in seconds, from `first_s` doubling up to `most_s`."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._ceiling_s = first_s

    def next_delay_s(self) -> float:
        """Return the next delay: between half the current ceiling and the ceiling."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._most_s)
        return _RANDOM.uniform(ceiling_s / 2, ceiling_s)

    def reset(self) -> None:
        """Start anew after a success."""
        self._ceiling_s = self._first_s
