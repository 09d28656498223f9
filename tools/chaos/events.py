"""Every event that the system told, on disk: from a durable queue that a broker restart spares."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import UUID, uuid4

import orjson
import structlog
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from contracts.topology import EVENTS_EXCHANGE
from runtime.amqp.connection import UNREACHABLE, BrokerLink, Channel, loss_as_error
from runtime.amqp.publisher import PERSISTENT
from tools.chaos.background import running

QUEUE: Final = "ackledger.chaos.events"
PREFETCH: Final = 500
_FIRST_CONNECTION_S: Final = 20.0
_CALL_TIMEOUT_S: Final = 10.0
_MARKER_TYPE: Final = "chaos.marker"
_MARKER_INTERVAL_S: Final = 2.0
"""How soon a marker that was not confirmed, or was lost, is followed by another."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """What the checks need of an event."""

    event_id: UUID
    event_type: str
    transaction_id: UUID


class EventRecorder:
    """A subscriber to everything. Each event is written before it is acked; some come twice."""

    def __init__(self, amqp_url: str, *, directory: Path) -> None:
        """`amqp_url`: a user that may declare queues, straight to the broker."""
        self.path = directory / "events.jsonl"
        self.began_at = datetime.now(UTC)
        self._file: BinaryIO | None = None
        self._channel: Channel | None = None
        self._up = asyncio.Event()
        self._markers: set[str] = set()
        self._drained = asyncio.Event()
        self._exits = AsyncExitStack()
        self._link = BrokerLink(
            amqp_url, name="chaos-events", opened=self._consume, lost=self._lost
        )

    async def __aenter__(self) -> Self:
        """Return when the queue is bound; raises TimeoutError when the broker does not answer."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._exits.enter_context(self.path.open("wb"))
        try:
            await self._exits.enter_async_context(running(self._link.run()))
            async with asyncio.timeout(_FIRST_CONNECTION_S):
                await self._up.wait()
        except BaseException:
            await self._exits.aclose()
            raise
        self.began_at = datetime.now(UTC)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def drain(self, bound_s: float) -> bool:
        """Return whether all that the broker has by now was read within the bound.

        A marker is sent behind it: the queue keeps its order.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                while not self._drained.is_set():
                    await self._send_marker()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_MARKER_INTERVAL_S):
                            await self._drained.wait()
        is_drained = self._drained.is_set()
        self._drained.clear()
        self._markers.clear()
        return is_drained

    def read(self) -> Iterator[RecordedEvent]:
        """Yield every event, in the order of arrival."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
        with self.path.open("rb") as lines:
            for line in lines:
                fields = orjson.loads(line)
                yield RecordedEvent(
                    UUID(fields["event_id"]), fields["event_type"], UUID(fields["transaction_id"])
                )

    async def _consume(self, channel: Channel) -> None:
        await channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await channel.queue_bind(QUEUE, EVENTS_EXCHANGE, "#")
        await channel.basic_qos(prefetch_count=PREFETCH)
        self._channel = channel
        await channel.basic_consume(QUEUE, self._take)
        self._up.set()

    def _lost(self) -> None:
        self._channel = None

    async def _take(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        if properties.message_type == _MARKER_TYPE:
            if properties.correlation_id in self._markers:
                self._drained.set()
        else:
            self._write(message.body)
        try:
            with loss_as_error():
                await message.channel.basic_ack(message.delivery_tag or 0)
        except UNREACHABLE as error:
            # It comes again, and an event that is written twice is one that was told twice.
            log.info("event_ack_failed", error=repr(error))

    def _write(self, body: bytes) -> None:
        assert self._file is not None  # noqa: S101  # entered before anything is consumed
        content = orjson.loads(body)
        event = RecordedEvent(content["event_id"], content["event_type"], content["id"])
        self._file.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    async def _send_marker(self) -> None:
        channel = self._channel
        if channel is None:
            return
        name = uuid4().hex
        self._markers.add(name)
        properties = Basic.Properties(
            message_id=name,
            correlation_id=name,
            message_type=_MARKER_TYPE,
            delivery_mode=PERSISTENT,
        )
        with suppress(*UNREACHABLE), loss_as_error():
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                await channel.basic_publish(b"", routing_key=QUEUE, properties=properties)
