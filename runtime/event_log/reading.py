"""Events from the stream that the log is, for all who read it."""

import asyncio

from runtime.amqp.stream import Stream
from runtime.event_log.event import LoggedEvent


async def next_events(stream: Stream, *, within_s: float | None) -> list[LoggedEvent]:
    """Return the events that arrive next, at least one; none if nothing of ours does in time.

    Waits without bound where `within_s` is None. Raises ConnectionResetError once the stream ended.
    """
    try:
        async with asyncio.timeout(within_s):
            while True:
                messages = await stream.take()
                read = [LoggedEvent.read(message.offset, message.body) for message in messages]
                events = [event for event in read if event is not None]
                if events:
                    return events
    except TimeoutError:
        return []
