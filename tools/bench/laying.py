"""Laying a backlog: rows and messages as the doors would have made them, faster than they do."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final, Protocol, TypeVar, assert_never
from uuid import UUID, uuid4

import orjson

from cli.dependencies import Connection
from contracts.messages import RECORDED_TYPE, REQUESTED_TYPE, encode_recorded
from contracts.record import (
    Submission,
    have_terms,
    partition_of,
    recorded_rows,
    recording_arguments,
)
from contracts.requests.references import other_id, resolved
from contracts.requests.transaction import command_of
from contracts.topology import TRANSACTIONS_EXCHANGE, partition_queue
from runtime.amqp.publisher import Outgoing, Publisher
from runtime.postgres.queries import load_queries
from tools.bench.cases import names
from tools.bench.ground import Ground
from tools.chaos.background import running

GROUP: Final = 500
"""Ids or transactions in one message."""
FLIGHT: Final = 2_000
"""Messages that are published together; a channel takes 20,000 unconfirmed."""
OVERDRAFT_MINOR: Final = 10**12
_PUBLISH_TIMEOUT_S: Final = 60.0
_NOTHING: Final = UUID(int=0)

Item = TypeVar("Item")


class Pattern(StrEnum):
    """Between which wallets the money moves."""

    UNIFORM = names.UNIFORM
    HOT = names.HOT
    REFUSALS = names.REFUSALS
    WIDE = names.WIDE
    ZIPF_1 = names.ZIPF_1
    ZIPF_2 = names.ZIPF_2

    @property
    def is_among_many(self) -> bool:
        """Whether it spreads over ten times the usual number of wallets."""
        return self is Pattern.WIDE or self in _EXPONENTS


_EXPONENTS: Final = {Pattern.ZIPF_1: 1.0, Pattern.ZIPF_2: 2.0}
"""The wallet of rank n is drawn in proportion to 1/n to the power of this."""


class Kind(StrEnum):
    """How transactions come to the processor."""

    RECORDED = names.RECORDED
    REQUESTED = names.REQUESTED
    SINGLES = names.SINGLES


@dataclass(frozen=True, slots=True)
class Wallets:
    """Wallets that can always pay, and wallets that never can."""

    rich: Sequence[UUID]
    poor: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer to be asked for."""

    key: str
    source: UUID
    destination: UUID

    def to_json(self) -> dict[str, Any]:
        """Return it as a client's body."""
        return {
            "idempotency_key": self.key,
            "type": "transfer",
            "source_wallet_id": str(self.source),
            "destination_wallet_id": str(self.destination),
            "amount": "1.00",
            "currency": "USD",
        }


class Request(Protocol):
    """Whatever is asked for."""

    @property
    def key(self) -> str:
        """Its idempotency key."""

    def to_json(self) -> dict[str, Any]:
        """Return it as a client's body."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A transaction of any type, by the fields of its body."""

    key: str
    fields: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it as a client's body."""
        return {"idempotency_key": self.key, **self.fields}


REFUSED_SHARE: Final = 0.3


def plan_transfers(
    wallets: Wallets, pattern: Pattern, count: int, *, seed: int
) -> Iterator[Transfer]:
    """Yield transfers between two different wallets, each under a key of its own."""
    rng = random.Random(seed)
    rich = wallets.rich
    draw = _drawing(rich, pattern, rng)
    for _ in range(count):
        source = draw()
        if pattern is Pattern.HOT:
            source = rich[0]
        if pattern is Pattern.REFUSALS and rng.random() < REFUSED_SHARE:
            source = rng.choice(wallets.poor)
        destination = draw()
        while destination == source:
            destination = draw()
        # Random, as clients make them: the index of keys gets no help from their order.
        yield Transfer(str(uuid4()), source, destination)


def _drawing(wallets: Sequence[UUID], pattern: Pattern, rng: random.Random) -> Callable[[], UUID]:
    """Return what draws a wallet: any alike, or by Zipf's law.

    By that law the most used wallets are anywhere among all: neighbours would share their pages.
    """
    exponent = _EXPONENTS.get(pattern)
    if exponent is None:
        return lambda: rng.choice(wallets)
    ranked = rng.sample(wallets, len(wallets))
    weights = list(accumulate(rank**-exponent for rank in range(1, len(ranked) + 1)))
    return lambda: rng.choices(ranked, cum_weights=weights)[0]


async def make_wallets(connection: Connection, *, rich: int, poor: int) -> Wallets:
    """Insert wallets; they have no entries yet, and the books balance."""
    sql = load_queries("tools.bench")["insert_wallets"]
    made = [
        [row["id"] for row in await connection.fetch(sql, count, overdraft)]
        for count, overdraft in ((rich, OVERDRAFT_MINOR), (poor, 0))
    ]
    return Wallets(*made)


async def lay(
    ground: Ground, connection: Connection, kind: Kind, transfers: Sequence[Request]
) -> None:
    """Lay a backlog of one kind, every message confirmed; raises NotConfirmedError."""
    url = ground.upstream_url
    match kind:
        case Kind.RECORDED:
            url = ground.amqp_url
            messages = await _record(ground, connection, transfers)
        case Kind.REQUESTED:
            messages = [_requested(group) for group in in_groups(transfers, GROUP)]
        case Kind.SINGLES:
            messages = [_requested_alone(one) for one in transfers]
        case _:
            assert_never(kind)
    await publish(url, messages)


async def publish(amqp_url: str, messages: Sequence[Outgoing]) -> None:
    """Publish messages in their order, every one confirmed."""
    async with _publisher(amqp_url) as publisher:
        for flight in in_groups(messages, FLIGHT):
            await publisher.publish_all(flight, timeout_s=_PUBLISH_TIMEOUT_S)


def in_groups(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield items in their order, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def _record(
    ground: Ground, connection: Connection, requests: Sequence[Request]
) -> list[Outgoing]:
    """Insert PENDING rows as the ingress does; return what announces them."""
    messages = []
    for group in in_groups(requests, GROUP):
        ids = await record(connection, group, submitter=ground.submitter)
        shares: dict[int, list[UUID]] = defaultdict(list)
        for request, transaction_id in zip(group, ids, strict=True):
            shares[partition_for(request, ground)].append(transaction_id)
        messages += [
            Outgoing(
                exchange="",
                routing_key=partition_queue(partition),
                body=encode_recorded(share),
                type=RECORDED_TYPE,
            )
            for partition, share in shares.items()
        ]
    return messages


def partition_for(request: Request, ground: Ground) -> int:
    """Return the partition that posts what is asked for."""
    if ground.partitions == 1:
        return 0
    return partition_of(command_of(request.to_json()), count=ground.partitions)


async def record(
    connection: Connection, requests: Sequence[Request], *, submitter: str
) -> list[UUID]:
    """Insert PENDING rows by the ingress's own statements; return their ids in order."""
    commands = [command_of(one.to_json()) for one in requests]
    named = [one for one in map(other_id, commands) if one is not None]
    rows = await connection.fetch(load_queries("processor")["read_others"], named) if named else []
    others = {row["id"]: row for row in rows}
    submissions = [
        Submission(submitter, resolved(one, others.get(other_id(one) or _NOTHING)))
        for one in commands
    ]
    is_plain = not have_terms(submissions)
    query = "record_transactions" if is_plain else "record_transactions_with_terms"
    recorded = await connection.fetch(
        load_queries("ingress")[query], *recording_arguments(submissions)
    )
    return [row.id for row in recorded_rows(recorded, len(requests))]


def _requested(group: Sequence[Request]) -> Outgoing:
    body = {"version": 1, "transactions": [one.to_json() for one in group]}
    return _upstream(group[0].key, body)


def _requested_alone(transfer: Request) -> Outgoing:
    return _upstream(transfer.key, {"version": 1, **transfer.to_json()})


def _upstream(routing_key: str, body: dict[str, Any]) -> Outgoing:
    return Outgoing(
        exchange=TRANSACTIONS_EXCHANGE,
        routing_key=routing_key,
        body=orjson.dumps(body),
        type=REQUESTED_TYPE,
    )


@asynccontextmanager
async def _publisher(url: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(url, name="bench")
    async with running(publisher.run()):
        await publisher.wait_until_up()
        yield publisher
