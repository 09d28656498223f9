"""Of each event of a round exactly one thing is known in the end, and a row ends with its last."""

from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from contracts.topology import EVENT_BUNDLES
from processor.events.messages import BuiltFlight, Landing, Place, Settlement, flights
from processor.events.owed import Owed
from runtime.amqp.publisher import Outgoing

_MESSAGE = Outgoing("ackledger.events", "transaction.completed.deposit.USD", b"{}", "any.v1")


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


@given(st.lists(st.integers(1, 12), max_size=8), st.integers(1, 7), st.data())
def test_each_event_is_confirmed_refused_or_set_aside_once(
    sizes: list[int], size: int, data: st.DataObject
) -> None:
    owed = _owed(sizes)
    settlement = Settlement(owed)
    expected: list[Place] = []
    for parts, *_ in flights(owed, size):
        places = [Place(part.outbox_id, one) for part in parts for one in part.transaction_ids]
        broken = data.draw(st.sets(st.sampled_from(places)))
        sent = [place for place in places if place not in broken]
        refused = sorted(data.draw(st.sets(st.sampled_from(range(len(sent)))))) if sent else []
        expected += [*broken, *(sent[number] for number in refused)]
        fault = dict.fromkeys(broken, ValueError("no"))
        settlement.land(BuiltFlight(parts, [_MESSAGE] * len(sent), dict(fault)), Landing(refused))

    refused_places = [one.place for one in settlement.refused]
    aside = [one.place for one in settlement.set_aside]
    assert sorted(refused_places + aside) == sorted(expected)
    assert settlement.confirmed["completed"] == sum(sizes) - len(expected)
    assert (settlement.ended, settlement.unfinished) == ([one.outbox_id for one in owed], [])


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 7), st.data())
def test_with_a_log_a_row_ends_when_it_has_each_event_and_each_counts_once(
    sizes: list[int], size: int, data: st.DataObject
) -> None:
    owed = _owed(sizes)
    settlement = Settlement(owed)
    settlement.begin_log()
    under_way = [flight.parts for flight in flights(owed, size)]
    logged = data.draw(st.sets(st.sampled_from(range(len(under_way)))))
    for number, parts in enumerate(under_way):
        places = [Place(part.outbox_id, one) for part in parts for one in part.transaction_ids]
        flight = BuiltFlight(parts, [_MESSAGE] * (len(places) - 1), {places[0]: ValueError("no")})
        if number in logged:
            settlement.log(flight)
        if data.draw(st.booleans()):
            settlement.land(flight)
        else:
            settlement.pass_over(parts)

    outside = {
        part.outbox_id
        for number, parts in enumerate(under_way)
        if number not in logged
        for part in parts
    }
    assert settlement.unfinished == [one.outbox_id for one in owed if one.outbox_id in outside]
    counted = sum(len(part.transaction_ids) for number in logged for part in under_way[number])
    assert settlement.confirmed["completed"] == counted - len(settlement.set_aside)
    assert not settlement.unheard


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 7), st.data())
def test_an_event_that_is_refused_in_two_ways_waits_in_two_lines_and_counts_once(
    sizes: list[int], size: int, data: st.DataObject
) -> None:
    owed = _owed(sizes)
    settlement = Settlement(owed)
    settlement.begin_log()
    expected: list[tuple[Place, str]] = []
    for parts, *_ in flights(owed, size):
        places = [Place(part.outbox_id, one) for part in parts for one in part.transaction_ids]
        flight = BuiltFlight(parts, [_MESSAGE] * len(places))
        numbers = st.sets(st.sampled_from(range(len(places))))
        bundled, single = sorted(data.draw(numbers)), sorted(data.draw(numbers))
        settlement.log(flight, Landing(bundled))
        settlement.land(flight, Landing(single))
        expected += [(places[number], EVENT_BUNDLES) for number in bundled]
        expected += [(places[number], _MESSAGE.routing_key) for number in single]

    assert sorted(settlement.refused) == sorted(expected)
    confirmed = sum(sizes) - len({place for place, _ in expected})
    assert settlement.confirmed["completed"] == confirmed
    assert settlement.unfinished == []


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 7), st.data())
def test_a_row_ends_only_when_all_of_its_flights_have_landed(
    sizes: list[int], size: int, data: st.DataObject
) -> None:
    owed = _owed(sizes)
    settlement = Settlement(owed)
    under_way = [flight.parts for flight in flights(owed, size)]
    landed = data.draw(st.sets(st.sampled_from(range(len(under_way)))))
    for number in landed:
        parts = under_way[number]
        count = sum(len(part.transaction_ids) for part in parts)
        settlement.land(BuiltFlight(parts, [_MESSAGE] * count), Landing(range(count)))

    missing = {
        part.outbox_id
        for number, parts in enumerate(under_way)
        if number not in landed
        for part in parts
    }
    assert set(settlement.unfinished) == missing
    refused, aside = settlement.only_ended()
    assert {one.place.outbox_id for one in refused}.isdisjoint(missing)
    assert aside == []


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 7), st.randoms())
def test_what_was_refused_keeps_its_order_whichever_flight_landed_first(
    sizes: list[int], size: int, chance: Random
) -> None:
    owed = _owed(sizes)
    settlement = Settlement(owed)
    under_way = [flight.parts for flight in flights(owed, size)]
    chance.shuffle(under_way)
    for parts in under_way:
        count = sum(len(part.transaction_ids) for part in parts)
        settlement.land(BuiltFlight(parts, [_MESSAGE] * count), Landing(range(count)))

    refused, _ = settlement.only_ended()
    posted = [one for row in owed for one in row.transaction_ids]
    assert [one.place.transaction_id for one in refused] == posted
