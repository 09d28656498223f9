"""The frame filter cuts whole frames out of any pieces of a stream, and loses none of the rest."""

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from runtime.amqp.incoming import ACK, DELIVER, RETURN, FrameFilter

_OWN: Final = 1
_Taken = list[tuple[bytes, bytes, bytes, bytes]]


def _content(method: FrameTypes, body: bytes, *, cut: int, channel: int) -> list[bytes]:
    """Return the frames of a method with its content, the body in pieces."""
    header = ContentHeader(body_size=len(body), properties=Basic.Properties(user_id="shop"))
    pieces = [ContentBody(body[start : start + cut]) for start in range(0, len(body), cut)]
    return [frame.marshal(one, channel) for one in (method, header, *pieces)]


def _delivery(tag: int, body: bytes, *, cut: int = 100, channel: int = _OWN) -> list[bytes]:
    return _content(
        Basic.Deliver("ctag", tag, redelivered=False, exchange="", routing_key="key"),
        body,
        cut=cut,
        channel=channel,
    )


_FOREIGN: Final = st.sampled_from(
    [
        frame.marshal(Heartbeat(), 0),
        frame.marshal(commands.Connection.Blocked("low on memory"), 0),
        frame.marshal(commands.Queue.DeclareOk("queue", 3, 1), _OWN),
        frame.marshal(Basic.Cancel("ctag"), _OWN),
        frame.marshal(Basic.Nack(7, multiple=True), _OWN),
        frame.marshal(Basic.Ack(7, multiple=True), 2),
        b"".join(_delivery(1, b"of another channel", channel=2)),
        b"".join(
            _content(
                Basic.GetOk(1, redelivered=False, exchange="", routing_key="key", message_count=0),
                b"asked",
                cut=3,
                channel=_OWN,
            )
        ),
    ]
)
_ACKS: Final = st.builds(
    lambda tag: (
        ACK,
        tag.to_bytes(8, "big") + b"\1",
        frame.marshal(Basic.Ack(tag, multiple=True), _OWN),
    ),
    st.integers(1, 2**63 - 1),
)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[bytes, _Taken, bytes]:
    """Return a stream, what is to be taken out of it, and what is to go on."""
    stream, taken, others = b"", _Taken(), b""
    for _ in range(draw(st.integers(0, 6))):
        if foreign := draw(st.none() | _FOREIGN):
            stream += foreign
            others += foreign
        elif ack := draw(st.none() | _ACKS):
            method, arguments, encoded = ack
            stream += encoded
            taken.append((method, arguments, b"", b""))
        else:
            body, cut = draw(st.binary(max_size=40)), draw(st.integers(1, 40))
            method_frame, header, *pieces = _delivery(5, body, cut=cut)
            between = draw(st.sampled_from([b"", frame.marshal(Heartbeat(), 0)]))
            stream += b"".join([method_frame, header, between, *pieces])
            others += between
            taken.append((DELIVER, method_frame[11:-1], header[19:-1], body))
    return stream, taken, others


def _frame_filter(taken: _Taken) -> FrameFilter:
    frame_filter = FrameFilter()

    def keep(method: bytes, *parts: bytes) -> None:
        taken.append((method, *parts))  # type: ignore[arg-type]

    frame_filter.route(
        _OWN,
        {
            DELIVER: lambda *parts: keep(DELIVER, *parts),
            ACK: lambda *parts: keep(ACK, *parts),
        },
    )
    return frame_filter


def _pieces(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(_streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_however_the_stream_is_cut_what_is_taken_and_what_goes_on_are_the_same(
    case: tuple[bytes, _Taken, bytes], cuts: list[int]
) -> None:
    stream, wanted, others = case
    taken = _Taken()
    frame_filter = _frame_filter(taken)

    passed = [frame_filter.feed(piece) for piece in _pieces(stream, cuts)]

    assert taken == wanted
    assert b"".join(passed) + frame_filter.end() == others


def test_what_goes_on_goes_in_whole_frames() -> None:
    frame_filter = FrameFilter()
    heartbeat = frame.marshal(Heartbeat(), 0)

    assert frame_filter.feed(heartbeat + heartbeat[:3]) == heartbeat
    assert frame_filter.feed(heartbeat[3:]) == heartbeat


def test_a_frame_that_breaks_off_is_shown_at_the_end() -> None:
    frame_filter = _frame_filter([])

    assert frame_filter.feed(b"\1\0\1\0\0\0\5abc") == b""
    assert frame_filter.end() == b"\1\0\1\0\0\0\5abc"


@pytest.mark.parametrize("answer", [b"AMQP\0\0\x09\1", b"HTTP/1.1 400 Bad Request\r\n"])
def test_what_is_no_frame_goes_on_at_once(answer: bytes) -> None:
    frame_filter = _frame_filter([])

    assert frame_filter.feed(answer) + frame_filter.feed(b"more") == answer + b"more"


def test_a_returned_message_comes_before_its_confirm() -> None:
    order: list[str] = []
    frame_filter = FrameFilter()
    frame_filter.route(
        _OWN,
        {
            RETURN: lambda *parts: order.append(f"return {parts[2].decode()}"),
            ACK: lambda *_: order.append("ack"),
        },
    )
    returned = _content(Basic.Return(312, "NO_ROUTE", "", "key"), b"back", cut=2, channel=_OWN)

    assert frame_filter.feed(b"".join(returned) + frame.marshal(Basic.Ack(1), _OWN)) == b""
    assert order == ["return back", "ack"]
