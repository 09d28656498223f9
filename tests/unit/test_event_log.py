"""What the log of events is made of: ids, the ring, and what a caller sees of an event."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from contracts.problems import ContractError, ProblemCode
from contracts.representations import examples
from ingress.authentication import Client
from ingress.events.log import EventLog, Ring
from processor.events.messages import OCTETS_MAX, bundles_of, events_of
from runtime.access.wallets import Holder, Holders, WalletHolders
from runtime.amqp.publisher import Outgoing
from runtime.event_log.event import EVERYTHING, LoggedEvent, LogPosition, Wanted, behind, keys_of

BODY = orjson.dumps(examples.TRANSACTION_EVENT)


def _event(offset: int, body: bytes = BODY) -> LoggedEvent:
    event = LoggedEvent.read(offset, body)
    assert event is not None
    return event


def test_an_id_says_where_and_which_event_it_is() -> None:
    event, other = _event(4711), _event(4711, BODY + b" ")

    assert LogPosition.of_id(event.position.id) == event.position
    assert event.position.id != other.position.id


@pytest.mark.parametrize(
    "text", ["", "1", "1.0", "1.0-", "1-00000000", ".0-00000000", "1.0-0000000g", "².0-00000000"]
)
def test_what_is_no_id_of_an_event_stands_nowhere(text: str) -> None:
    assert LogPosition.of_id(text) is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"null", b'{"event_type":"x"}'])
def test_what_is_no_event_of_ours_is_left_out(body: bytes) -> None:
    assert LoggedEvent.read(1, body) is None


def test_a_bundle_is_read_back_line_by_line_and_gone_on_in_from_its_middle() -> None:
    bodies = [BODY, BODY + b" ", b"no event", BODY + b"  "]
    [bundle] = bundles_of([Outgoing("x", "k", body, "any.v1") for body in bodies])

    events = LoggedEvent.read_all(7, bundle.body)

    assert [event.body for event in events] == [bodies[0], bodies[1], bodies[3]]
    assert [event.position.place for event in events] == [(7, 0), (7, 1), (7, 3)]
    assert behind(events, events[0].position) == events[1:]
    assert behind(events, events[-1].position) == []
    assert behind(events, events[0].position._replace(check=0)) is None
    assert LoggedEvent.read_all(7, BODY) == [_event(7)]


def test_a_bundle_is_cut_where_it_becomes_large() -> None:
    large = orjson.dumps({**examples.TRANSACTION_EVENT, "metadata": {"k": "x" * (OCTETS_MAX // 3)}})
    bodies = [large, BODY, large, BODY, large, b'{\n"a":1}']

    bundles = bundles_of([Outgoing("x", "k", body, "any.v1") for body in bodies])

    assert len(bundles) == 2
    assert all(len(bundle.body) <= OCTETS_MAX for bundle in bundles)
    lines = [line for bundle in bundles for line in bundle.body.split(b"\n")]
    assert lines == [*bodies[:-1], b'{ "a":1}']
    assert bundles_of([]) == []
    counts = [bundle.body.count(b"\n") + 1 for bundle in bundles]
    assert events_of(bundles, [0]) == [*range(counts[0])]
    assert events_of(bundles, [1]) == [*range(counts[0], len(bodies))]
    assert events_of(bundles, [0, 1]) == [*range(len(bodies))]
    assert events_of([Outgoing("x", "k", body, "any.v1") for body in bodies], [2, 5]) == [2, 5]


def test_a_ring_keeps_the_last_events_and_gives_no_number_twice() -> None:
    ring = Ring(events_max=8)
    # Offsets have gaps; numbers have none.
    events = [_event(offset, BODY + b" " * offset) for offset in range(1, 41, 2)]
    for event in events:
        ring.append(event)

    assert ring.next_number == len(events)
    assert len(ring.since(ring.first_number, 100)) <= 8
    assert ring.since(ring.first_number, 100)[-1] is events[-1]
    assert ring.number_after(events[-2].position) == len(events) - 1
    assert ring.number_after(events[0].position) is None
    assert ring.number_after(LogPosition(events[-1].position.offset, 0, 0)) is None
    with pytest.raises(LookupError):
        ring.since(0, 1)
    ring.clear()
    assert (ring.first, ring.next_number) == (None, len(events))


def test_a_ring_is_bounded_by_what_its_events_weigh() -> None:
    ring = Ring(octets_max=10 * len(BODY))
    for offset in range(100):
        ring.append(_event(offset))

    assert len(ring.since(ring.first_number, 100)) <= 10


def test_a_caller_of_its_own_sees_no_balance_of_others() -> None:
    named = [examples.TRANSFER_REQUEST[f"{side}_wallet_id"] for side in ("source", "destination")]
    source, destination = map(UUID, named)
    wallets = [{"wallet_id": one, "balance": "1.00"} for one in named]
    body = orjson.dumps({**examples.TRANSACTION_EVENT, "wallets": wallets})
    event = _event(1, body)
    owner = Holder("user-1", "1")
    holders = {destination: Holders(frozenset(), "1"), source: Holders(frozenset(), None)}

    shown = Wanted(owner).shown(event, holders)

    assert shown is not None
    assert {one["wallet_id"] for one in orjson.loads(shown)["wallets"]} == {str(destination)}
    assert Wanted(owner).shown(event, {}) is None
    assert keys_of(event, holders) >= {EVERYTHING, ("owner", "1"), ("wallet", str(source))}
    assert set(Wanted(owner).keys) == {("name", "user-1"), ("owner", "1")}
    assert Wanted(None).shown(event, {}) == body


async def test_where_no_log_is_kept_nobody_follows() -> None:
    pool: Any = None  # no wallet is looked up
    event_log = EventLog("amqp://nowhere", WalletHolders(pool), is_kept=False, followers_max=10)

    with pytest.raises(ContractError) as refused:
        async with event_log.follow(Client("x", frozenset()), Wanted(None)):
            pass
    assert refused.value.code is ProblemCode.EVENTS_UNAVAILABLE
