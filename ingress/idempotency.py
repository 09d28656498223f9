"""Idempotency: what a recorded row means for the request that asked for it. Pure."""

from enum import StrEnum

from contracts.recording import RecordedRow


class Standing(StrEnum):
    """How a request stands to its key."""

    NEW = "new"
    """The first under this key: it was recorded now."""
    REPLAY = "replay"
    """The same content again: the first transaction is the answer."""
    CONFLICT = "conflict"
    """Other content under a used key: refused, and nothing was recorded."""


def is_to_announce(row: RecordedRow) -> bool:
    """Whether the processor has to hear of it.

    A replay that is still PENDING may be the retry of a request whose ingress died before it
    announced: told again, it keeps its place before what the client sends next. Told twice, it is
    posted once.
    """
    return row.is_same and row.is_pending


def standing_of(row: RecordedRow) -> Standing:
    """Return how the request stands that got this row."""
    if not row.is_same:
        return Standing.CONFLICT
    return Standing.NEW if row.is_new else Standing.REPLAY
