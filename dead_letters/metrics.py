"""What is counted of dead letters, kept and ended; docs/operations.md says what to watch."""

from typing import Final

from prometheus_client import Counter

from contracts.messages import DeadLetterReason
from runtime.service.measures import from_zero

STORED: Final = Counter(
    "ackledger_dead_letters_stored", "Dead letters put into the table, by reason", ["reason"]
)
from_zero(STORED, DeadLetterReason)
FAILURES: Final = Counter(
    "ackledger_dead_letters_failures", "Tries to store dead letters that have to be made again"
)
IN_PART: Final = Counter(
    "ackledger_dead_letters_in_part", "Dead letters whose whole the database refused"
)
ENDED: Final = Counter(
    "ackledger_dead_letters_ended", "Dead letters that an operator dealt with", ["outcome"]
)
