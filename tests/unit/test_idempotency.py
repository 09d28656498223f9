"""How a request stands to its key, and whether the processor has to hear of it."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from contracts.record import RecordedRow
from ingress.submit.recorder import Standing, is_to_announce, standing_of


@pytest.mark.parametrize(
    ("is_new", "is_same", "is_pending", "standing", "is_announced"),
    [
        (True, True, True, Standing.NEW, True),
        (False, True, True, Standing.REPLAY, True),
        (False, True, False, Standing.REPLAY, False),
        (False, False, True, Standing.CONFLICT, False),
        (False, False, False, Standing.CONFLICT, False),
    ],
)
def test_every_standing(
    *, is_new: bool, is_same: bool, is_pending: bool, standing: Standing, is_announced: bool
) -> None:
    row = RecordedRow(
        UUID(int=1),
        is_new=is_new,
        is_same=is_same,
        is_pending=is_pending,
        created_at=datetime.now(UTC),
    )

    assert standing_of(row) is standing
    assert is_to_announce(row) is is_announced
