"""Why messages become dead letters, told so that an operator finds the place; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from contracts.messages import DeadLetterReason, Requested, encode_recorded
from processor.intake import Delivery

_IDS_SHOWN_MAX: Final = 3
"""Transactions that a letter about reused keys names; the places name all."""
_PLACES_SHOWN_MAX: Final = 600
"""Characters of the places: what is wrong there stands behind them, in the same header."""


@dataclass(frozen=True, slots=True)
class DeadLetterCause:
    """Why a message is buried; `body`, if given, stands in for the original."""

    reason: DeadLetterReason
    detail: str
    transaction_id: UUID | None = None
    body: bytes | None = None


def told(error: Exception) -> str:
    """Return an error as a dead letter's detail tells of it."""
    return f"{type(error).__name__}: {error}"


def letter_of_quarantined(error: Exception, transaction_id: UUID) -> DeadLetterCause:
    """Return the letter of a transaction that is set aside; a replay posts it by its id."""
    return DeadLetterCause(
        reason=DeadLetterReason.QUARANTINED,
        detail=told(error),
        transaction_id=transaction_id,
        body=encode_recorded([transaction_id]),
    )


def letter_of_unrecorded(
    delivery: Delivery, failed: Sequence[tuple[int, Exception]]
) -> DeadLetterCause:
    """Return the letter of a message of which some transactions could not be recorded."""
    place = _place(delivery, [index for index, _ in failed])
    return DeadLetterCause(DeadLetterReason.QUARANTINED, f"{place}{told(failed[0][1])}")


def letter_of_reused_keys(
    delivery: Delivery, reused: Sequence[tuple[int, UUID]]
) -> DeadLetterCause:
    """Return the letter of a message whose keys stand for other content."""
    place = _place(delivery, [index for index, _ in reused])
    names = ", ".join(str(one) for _, one in reused[:_IDS_SHOWN_MAX])
    more = f" and {len(reused) - _IDS_SHOWN_MAX} more" if len(reused) > _IDS_SHOWN_MAX else ""
    detail = f"{place}the key was already used with different content, for {names}{more}"
    return DeadLetterCause(DeadLetterReason.IDEMPOTENCY_KEY_REUSED, detail)


def letter_of_invalid(delivery: Delivery, invalid: Sequence[tuple[int, str]]) -> DeadLetterCause:
    """Return the letter of a message that does not fit the transactions that it names."""
    place = _place(delivery, [index for index, _ in invalid])
    return DeadLetterCause(DeadLetterReason.INVALID_MESSAGE, f"{place}{invalid[0][1]}")


def _place(delivery: Delivery, indexes: Sequence[int]) -> str:
    """Name the transactions of a message that holds many; whole runs of them as 'first-last'."""
    if not isinstance(delivery.content, Requested) or not delivery.content.is_batch:
        return ""
    runs: list[list[int]] = []
    for index in indexes:
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    places = ",".join(parts)
    if len(places) > _PLACES_SHOWN_MAX:
        places = f"{places[:_PLACES_SHOWN_MAX]}…"
    return f"/transactions/{places}: "
