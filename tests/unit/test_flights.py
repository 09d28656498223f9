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

    told = [one for flight in cut for part in flight.parts for one in part.transaction_ids]
    assert told == [one for part in owed for one in part.transaction_ids]
    counts = [sum(len(part.transaction_ids) for part in flight.parts) for flight in cut]
    asked = [first or size, *[size] * len(counts)]
    assert all(count == room for count, room in zip(counts[:-1], asked, strict=False))
    assert all(1 <= count <= room for count, room in zip(counts, asked, strict=False))


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 9))
def test_a_part_says_where_it_stands_in_its_row(sizes: list[int], size: int) -> None:
    owed = {one.outbox_id: one for one in _owed(sizes)}
    parts = [part for flight in flights(list(owed.values()), size) for part in flight.parts]

    for part in parts:
        whole = owed[part.outbox_id].transaction_ids
        assert part.transaction_ids == [whole[one] for one in part.positions]


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 9), st.data())
def test_what_nobody_receives_is_not_cut_and_goes_with_the_flight_that_it_comes_before(
    sizes: list[int], size: int, data: st.DataObject
) -> None:
    owed = _owed(sizes)
    unheard_rows = {one.outbox_id for one in owed if data.draw(st.booleans())}
    # As a round does: nothing is known before its first flight.
    asked = 0

    def is_unheard(one: Owed) -> bool:
        nonlocal asked
        asked += 1
        return bool(seen) and one.outbox_id in unheard_rows

    ended: list[UUID] = []
    seen: list[UUID] = []
    for flight in flights(owed, size, is_unheard=is_unheard):
        seen += [one for part in flight.parts for one in part.transaction_ids]
        seen += [one for part in flight.unheard for one in part.transaction_ids]
        assert sum(len(part.transaction_ids) for part in flight.parts) <= size
        assert {part.outbox_id for part in flight.unheard} <= unheard_rows
        ended += flight.ended

    assert sorted(seen) == sorted(one for part in owed for one in part.transaction_ids)
    assert ended == [one.outbox_id for one in owed]
    assert asked <= sum(sizes)
