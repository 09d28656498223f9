"""Which partition posts a transaction."""

from uuid import UUID

from contracts.identifiers import external_wallet_id
from contracts.record import posting_partition


def test_a_reversal_is_posted_where_what_it_reverses_is() -> None:
    external = external_wallet_id("USD")
    for number in range(20):
        source, destination = UUID(int=2 * number + 1), UUID(int=2 * number + 2)
        for debited, credited in [
            (source, destination),
            (external, destination),
            (source, external),
            (source, None),
        ]:
            original = posting_partition(debited, credited, "USD", is_reversal=False, count=8)
            reversal = posting_partition(credited, debited, "USD", is_reversal=True, count=8)
            assert reversal == original
