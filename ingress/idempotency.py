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


def standing_of(row: RecordedRow) -> Standing:
    """Return how the request stands that got this row."""
    if not row.is_same:
        return Standing.CONFLICT
    return Standing.NEW if row.is_new else Standing.REPLAY
