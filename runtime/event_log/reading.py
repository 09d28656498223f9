"""Events from the stream that the log is, for all who read it."""

import asyncio
from collections.abc import Sequence

from runtime.amqp.stream import Stream
from runtime.event_log.event import LoggedEvent, LogPosition


async def next_events(stream: Stream, *, within_s: float | None) -> list[LoggedEvent]:
    """Return the events that arrive next, at least one; none if nothing of ours does in time.

    They are those of whole messages. Waits without bound where `within_s` is None. Raises
    ConnectionResetError once the stream ended.
    """
    try:
        async with asyncio.timeout(within_s):
            while True:
                messages = await stream.take()
                events = [
                    event
                    for message in messages
                    for event in LoggedEvent.read_all(message.offset, message.body)
                ]
                if events:
                    return events
    except TimeoutError:
        return []


def behind(events: Sequence[LoggedEvent], position: LogPosition) -> Sequence[LoggedEvent] | None:
    """Return what comes after a position, of what begins at its offset; None if it is not there."""
    for number, event in enumerate(events):
        if event.position == position:
            return events[number + 1 :]
        if event.position.place > position.place:
            break
    return None
