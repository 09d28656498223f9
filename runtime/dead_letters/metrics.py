"""What is counted when dead letters are ended; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter

ENDED: Final = Counter(
    "ackledger_dead_letters_ended", "Dead letters that an operator dealt with", ["outcome"]
)
