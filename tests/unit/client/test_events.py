"""Server-sent events are read as they were sent, in whatever pieces they come."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ackledger.client.events import EVENT_OCTETS_MAX, Block, EventStreamParser

_STREAM = (
    "retry: 1000\n\n"
    ": heartbeat\n\n"
    'id: 1-a\r\nevent: transaction.completed\r\ndata: {"ü": 1}\r\n\r\n'
    "id: 2-a\n\n"
    "event: reset\ndata: {}\n\n"
    "data: one\ndata:two\nunknown: x\n\n"
    "id: 3-a\ndata: cut off\n"
).encode()
_BLOCKS = [
    Block("message", "", None, 1.0),
    Block("transaction.completed", '{"ü": 1}', "1-a"),
    Block("message", "", "2-a"),
    Block("reset", "{}", "2-a"),
    Block("message", "one\ntwo", "2-a"),
]


@given(st.lists(st.integers(0, len(_STREAM)), max_size=20))
def test_the_pieces_in_which_a_stream_comes_change_nothing(cuts: list[int]) -> None:
    parser = EventStreamParser()
    places = [0, *sorted(cuts), len(_STREAM)]
    pieces = [_STREAM[a:b] for a, b in pairwise(places)]

    assert [block for piece in pieces for block in parser.feed(piece)] == _BLOCKS


def test_an_endless_line_is_not_gathered_for_ever() -> None:
    parser = EventStreamParser()
    piece = b"x" * (EVENT_OCTETS_MAX // 4)

    try:
        for _ in range(5):
            list(parser.feed(piece))
    except ConnectionError:
        return
    raise AssertionError("a line beyond the bound was taken")
