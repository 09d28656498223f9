"""Owed events travel in flights of a bounded size, in their order, each once."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from processor.events.messages import flights
from processor.events.owed import Owed


def _owed(sizes: list[int]) -> list[Owed]:
    numbers = iter(range(sum(sizes)))
    return [
        Owed(
            UUID(int=n),
            "completed",
            "now",
            [UUID(int=next(numbers)) for _ in range(size)],
            range(size),
        )
        for n, size in enumerate(sizes)
    ]


@given(
    st.lists(st.integers(1, 20), max_size=12),
    st.integers(1, 9),
    st.none() | st.integers(1, 9),
)
def test_flights_hold_every_event_once_and_in_order(
    sizes: list[int], size: int, first: int | None
) -> None:
    owed = _owed(sizes)
    cut = list(flights(owed, size, first=first))

    told = [one for flight in cut for part in flight for one in part.transaction_ids]
    assert told == [one for part in owed for one in part.transaction_ids]
    counts = [sum(len(part.transaction_ids) for part in flight) for flight in cut]
    asked = [first or size, *[size] * len(counts)]
    assert all(count == room for count, room in zip(counts[:-1], asked, strict=False))
    assert all(1 <= count <= room for count, room in zip(counts, asked, strict=False))


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 9))
def test_a_part_says_where_it_stands_in_its_row(sizes: list[int], size: int) -> None:
    owed = {one.outbox_id: one for one in _owed(sizes)}
    parts = [part for flight in flights(list(owed.values()), size) for part in flight]

    for part in parts:
        whole = owed[part.outbox_id].transaction_ids
        stop = part.positions[-1] + 1
        assert part.transaction_ids == [whole[one] for one in part.positions]
        assert part.is_last == (stop == len(whole))
