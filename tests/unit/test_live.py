"""What a page is told of events: the last few and how many, however fast they come."""

import orjson

from console.live import STREAMS_MAX, STREAMS_OF_ONE_MAX, TOLD_MAX, Ends, Streams


def _told(message: bytes) -> tuple[dict[bytes, bytes], dict[str, object]]:
    fields = dict(line.split(b": ", 1) for line in message.strip().split(b"\n"))
    return fields, orjson.loads(fields[b"data"])


def _block(number: int) -> bytes:
    body = {"id": str(number), "type": "deposit", "status": "COMPLETED", "metadata": {"a": "b"}}
    return b"id: %d-x\nevent: transaction.completed\ndata: %b" % (number, orjson.dumps(body))


def test_a_message_names_the_last_few_counts_all_and_tells_where_to_resume() -> None:
    ends = Ends()
    for number in range(1000):
        ends.add(_block(number))

    fields, told = _told(ends.take())

    assert fields[b"id"] == b"999-x"
    assert told["count"] == 1000
    transactions = told["transactions"]
    assert isinstance(transactions, list)
    assert [one["id"] for one in transactions] == ["997", "998", "999"][-TOLD_MAX:]
    assert all("metadata" not in one for one in transactions)
    assert not ends.came.is_set()


def test_a_reset_has_the_page_read_itself_anew_and_names_nothing() -> None:
    ends = Ends()
    ends.add(b": heartbeat")
    assert not ends.came.is_set()

    ends.add(b"event: reset\ndata: {}")

    assert ends.came.is_set()
    assert _told(ends.take())[1] == {"count": 0, "transactions": []}


def test_data_that_is_no_event_of_ours_names_nothing() -> None:
    ends = Ends()
    for data in (b"no JSON", b"[]", b""):
        ends.add(b"event: transaction.completed\ndata: " + data)

    assert _told(ends.take())[1] == {"count": 3, "transactions": [{}, {}, {}]}


def test_streams_are_bounded_for_one_person_and_for_all_and_their_places_come_back() -> None:
    streams = Streams()
    held = [streams.place("one") for _ in range(STREAMS_OF_ONE_MAX)]
    assert all(place.__enter__() for place in held)
    with streams.place("one") as is_free:
        assert not is_free
    others = [streams.place(str(n)) for n in range(STREAMS_MAX - STREAMS_OF_ONE_MAX)]
    assert all(place.__enter__() for place in others)
    with streams.place("another") as is_free:
        assert not is_free
    for place in (*held, *others):
        place.__exit__(None, None, None)
    with streams.place("one") as is_free:
        assert is_free


async def test_a_console_that_stops_gives_no_place_any_more() -> None:
    streams = Streams()
    await streams.end(None)
    with streams.place("one") as is_free:
        assert not is_free
