"""Frames of publishes: byte by byte what pamqp, which the rest of the connection uses, makes."""

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

from runtime.amqp.publisher import (
    Outgoing,
    Route,
    publish_frames,
    text_header,
    text_headers,
)

_TEXT: Final = st.text(max_size=60)
_OPTIONAL: Final = st.none() | _TEXT

_MESSAGES: Final = st.builds(
    Outgoing,
    exchange=st.sampled_from(["", "ackledger.events"]),
    routing_key=_TEXT,
    body=st.binary(max_size=300),
    type=_TEXT,
    correlation_id=_OPTIONAL,
    content_type=_OPTIONAL,
    headers=st.dictionaries(st.text(min_size=1, max_size=20), _TEXT, max_size=3),
    is_mandatory=st.booleans(),
)
_ROUTES: Final = st.builds(
    Route,
    channel=st.integers(1, 65535),
    content_size_max=st.integers(1, 300),
    user=st.text(min_size=1, max_size=20),
    at_s=st.integers(0, 4_000_000_000),
)


def _as_text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _by_pamqp(message: Outgoing, message_id: str, route: Route) -> bytes:
    assert not isinstance(message.headers, bytes)
    properties = commands.Basic.Properties(
        content_type=_as_text(message.content_type),
        delivery_mode=2,
        message_id=message_id,
        correlation_id=_as_text(message.correlation_id),
        timestamp=datetime.fromtimestamp(route.at_s, UTC),
        message_type=_as_text(message.type),
        user_id=route.user,
        app_id="ackledger",
        headers=dict(message.headers),
    )
    body, most = message.body, route.content_size_max
    frames: list[FrameTypes] = [
        commands.Basic.Publish(
            exchange=message.exchange,
            routing_key=message.routing_key,
            mandatory=message.is_mandatory,
        ),
        ContentHeader(properties=properties, body_size=len(body)),
        *(ContentBody(body[start : start + most]) for start in range(0, len(body), most)),
    ]
    return b"".join(frame.marshal(one, route.channel) for one in frames)


@given(st.lists(_MESSAGES, max_size=4), _ROUTES)
def test_the_frames_of_a_flight_are_those_of_its_messages_one_by_one(
    messages: list[Outgoing], route: Route
) -> None:
    ids = [f"id-{number}" for number in range(len(messages))]

    wanted = [_by_pamqp(*pair, route) for pair in zip(messages, ids, strict=True)]

    assert publish_frames(messages, ids, route) == b"".join(wanted)


@given(_MESSAGES, _ROUTES)
def test_headers_may_be_written_before(message: Outgoing, route: Route) -> None:
    assert not isinstance(message.headers, bytes)
    written = message._replace(headers=text_headers(message.headers))
    one_by_one = b"".join(text_header(*header) for header in sorted(message.headers.items()))

    assert publish_frames([written], ["id"], route) == publish_frames([message], ["id"], route)
    assert one_by_one == written.headers


@pytest.mark.parametrize("field", ["routing_key", "type", "correlation_id"])
def test_a_text_that_no_short_string_holds_is_refused(field: str) -> None:
    parts = {"exchange": "", "routing_key": "", "body": b"", "type": "", field: "x" * 256}
    route = Route(channel=1, content_size_max=100, user="demo", at_s=0)

    with pytest.raises((TypeError, ValueError), match="length"):
        publish_frames([Outgoing(**parts)], ["id"], route)  # type: ignore[arg-type]


def test_octets_of_another_sender_are_written_as_they_are() -> None:
    octets = b"\xff" * 255
    route = Route(channel=1, content_size_max=100, user="demo", at_s=0)
    message = Outgoing("", "", b"", type=octets, correlation_id=octets, content_type=octets)

    frames = publish_frames([message], ["id"], route)

    assert frames.count(b"\xff" + octets) == 3


def test_a_header_that_is_no_text_is_written_all_the_same() -> None:
    route = Route(channel=1, content_size_max=100, user="demo", at_s=0)
    message = Outgoing("", "", b"", type="", headers={"detail": "half a pair: \ud800"})

    assert b"half a pair: ?" in publish_frames([message], ["id"], route)
