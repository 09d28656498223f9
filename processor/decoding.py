"""From the messages of a partition's queue, as they arrive, to what they ask for."""

from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from contracts.broker_permissions import SERVICE_USERS, may_announce
from contracts.identifiers import valid_request_id, valid_traceparent
from contracts.messages import (
    RECORDED_TYPE,
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    DeadLetterReason,
    PoisonMessageError,
    Recorded,
    Requested,
    decode_message,
)
from contracts.problems import ContractError
from contracts.record import Submission
from contracts.requests.terms import check_ahead
from processor.metrics import CONSUMERS_REBUILT, WAITING_DELIVERIES
from processor.recording import Item
from runtime.amqp.connection import user_of
from runtime.amqp.consumer import IN_HAND_OCTETS_MAX, Consumer
from runtime.amqp.incoming import Arrival, DeliveringChannel, Properties
from runtime.amqp.watchdog import QUIET_MAX_S

_RECORDED: Final = RECORDED_TYPE.encode()
# The body of a recorded message: what stands around its ids, and an id with quotes and comma.
_AROUND_IDS: Final = 33
_ID_OCTETS: Final = 39
_KEY_FIELD: Final = b'"idempotency_key"'
_SINGLE_OCTETS: Final = 1024
"""A shorter message is taken for one transaction, without a look."""


class Poison(NamedTuple):
    """Why a message can never be processed. A value: an error would keep its frames alive."""

    reason: DeadLetterReason
    detail: str


Content: TypeAlias = Recorded | Requested | Poison


class Delivery(NamedTuple):
    """A message in hand: what it asks for, and the channel that wants its ack."""

    channel: DeliveringChannel
    tag: int
    body: bytes
    properties: Properties
    content: Content
    items: list[Item]
    """What is to be posted of it; nothing of poison."""

    @property
    def weight(self) -> int:
        """How many transactions it stands for; a dead letter counts as one piece of work."""
        return len(self.items) or 1


PartitionConsumer: TypeAlias = Consumer[Delivery]


def partition_consumer(
    url: str,
    queue: str,
    *,
    prefetch: int,
    octets_max: int = IN_HAND_OCTETS_MAX,
    quiet_max_s: float = QUIET_MAX_S,
) -> PartitionConsumer:
    """Return what consumes a partition's queue; its batches are bounded by transactions."""
    return Consumer(
        url,
        queue,
        name=f"consume-{queue}",
        decode=partial(decoded, own_user=user_of(url)),
        estimate=estimated_transactions,
        prefetch=prefetch,
        octets_max=octets_max,
        quiet_max_s=quiet_max_s,
        on_waiting=WAITING_DELIVERIES.set,
        on_rebuilt=lambda loss: CONSUMERS_REBUILT.labels(loss.value).inc(),
    )


def decoded(arrival: Arrival, *, own_user: str) -> Delivery:
    """Return what a message asks for; never raises, whatever it holds.

    `own_user`: this process's broker user. Only users of our own processes may name recorded ids.
    """
    channel, tag, properties, body = arrival
    try:
        asked = _content(properties, body, own_user=own_user)
        return Delivery(channel, tag, body, properties, asked, _items(asked, properties))
    except PoisonMessageError as error:
        poison = Poison(error.reason, error.detail)
    except Exception as error:  # noqa: BLE001  # a fault of ours, told by the dead letter
        poison = Poison(DeadLetterReason.UNKNOWN, repr(error))
    return Delivery(channel, tag, body, properties, poison, [])


def estimated_transactions(arrival: Arrival) -> int:
    """Return about how many transactions a message stands for, without decoding it."""
    octets = len(arrival.body)
    if arrival.properties.message_type_octets == _RECORDED:
        return max(1, (octets - _AROUND_IDS) // _ID_OCTETS)
    return 1 if octets < _SINGLE_OCTETS else max(1, arrival.body.count(_KEY_FIELD))


def _content(properties: Properties, body: bytes, *, own_user: str) -> Recorded | Requested:
    user = properties.user_id
    content = decode_message(
        body,
        message_type=properties.message_type,
        content_type=properties.content_type,
        user_id=user,
    )
    if isinstance(content, Recorded) and not may_announce(user, own_user=own_user):
        raise PoisonMessageError(
            DeadLetterReason.NOT_PERMITTED, "only Ackledger's own processes publish recorded ids"
        )
    if isinstance(content, Requested):
        if user in SERVICE_USERS:
            raise PoisonMessageError(
                DeadLetterReason.NOT_PERMITTED, "Ackledger's own processes submit no transactions"
            )
        _check_ahead(content)
    return content


def _check_ahead(content: Requested) -> None:
    """Raise PoisonMessageError for what is to be executed too far ahead of now."""
    now = datetime.now(UTC)
    for place, command in enumerate(content.commands):
        if command.terms is None:
            continue
        try:
            check_ahead(command.terms, now)
        except ContractError as error:
            where = f"/transactions/{place}: " if content.is_batch else ""
            raise PoisonMessageError(
                DeadLetterReason.INVALID_MESSAGE, f"{where}{error.detail}"
            ) from None


def _items(content: Recorded | Requested, properties: Properties) -> list[Item]:
    if isinstance(content, Recorded):
        return list(content.transaction_ids)
    headers = properties.headers
    traceparent = valid_traceparent(headers.get(TRACEPARENT_HEADER))
    request_id = valid_request_id(headers.get(REQUEST_ID_HEADER))
    return [
        Submission(content.submitter, command, request_id, traceparent)
        for command in content.commands
    ]
