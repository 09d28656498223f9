"""Dead letters: their states, and the bounds of what operators see and do of them."""

from enum import StrEnum
from typing import Final

from contracts.messages import MESSAGE_BYTES_MAX
from contracts.requests.review import REASON_MAX

ENDED_MAX: Final = 1000
"""Dead letters that one call replays or discards: each is a commit of its own, and the client
waits."""
ENDED_DEFAULT: Final = 100
BODY_LISTED_BYTES_MAX: Final = 4096
"""So much of each body is in a list: enough to recognize a message, and a page stays small."""
BODY_SHOWN_BYTES_MAX: Final = MESSAGE_BYTES_MAX
"""So much of a body is shown: all of every message that a replay could accept."""

GROUP_HOURS: Final = 24
"""Hours of which a group tells how many came in each."""
GROUPS_MAX: Final = 100
"""Groups that are told, the largest: more than anybody decides on by hand."""
NOTE_MAX: Final = REASON_MAX
"""Characters of a note."""


class DeadLetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class BodyEncoding(StrEnum):
    """How a dead letter's body is written in JSON."""

    TEXT = "text"
    BASE64 = "base64"
    """For bytes that are not UTF-8."""


class DeadLetterFate(StrEnum):
    """What replaying or discarding did to a dead letter."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"
    REFUSED = "refused"
    """It is still open: the detail says what is in the way."""
    UNCHANGED = "unchanged"
    """It was replayed or discarded before."""
