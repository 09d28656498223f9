"""Types: how fast a backlog of each type of transaction is posted, beside plain transfers."""

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from cli.dependencies import Connection
from processor.poster import Poster
from runtime.postgres.pool import KEYED_SESSION, create_pool
from runtime.postgres.queries import load_queries
from tools.bench.bench import Bench
from tools.bench.cases import names
from tools.bench.cases.case import Arm, Interleaved, Measure
from tools.bench.draining import drain
from tools.bench.ground import Field
from tools.bench.laying import GROUP, Asked, Kind, Request, Wallets, in_groups, record
from tools.bench.result import Figures

OPEN_HOLDS: Final = 100_000
_HOLD_S: Final = 7 * 24 * 3600

Plan = Callable[[Bench, Field, Connection, Wallets, int], Awaitable[Sequence[Request]]]
"""Prepares the books, and returns what is to be drained."""


def _asked(**fields: Any) -> Asked:
    return Asked(str(uuid4()), fields)


def _pairs(bench: Bench, wallets: Wallets, count: int) -> Iterator[tuple[str, str]]:
    chosen = random.Random(bench.next_seed())
    for _ in range(count):
        source, destination = chosen.sample(wallets.rich, 2)
        yield str(source), str(destination)


def _transfer(source: str, destination: str) -> Asked:
    return _asked(
        type="transfer",
        source_wallet_id=source,
        destination_wallet_id=destination,
        amount="1.00",
        currency="USD",
    )


def _hold(source: str, destination: str) -> Asked:
    return _asked(
        type="hold",
        source_wallet_id=source,
        destination_wallet_id=destination,
        amount="1.00",
        currency="USD",
        expires_in_s=_HOLD_S,
    )


async def _transfers(
    bench: Bench, _field: Field, _connection: Connection, wallets: Wallets, count: int
) -> Sequence[Request]:
    return [_transfer(*pair) for pair in _pairs(bench, wallets, count)]


async def _holds(
    bench: Bench, _field: Field, _connection: Connection, wallets: Wallets, count: int
) -> Sequence[Request]:
    return [_hold(*pair) for pair in _pairs(bench, wallets, count)]


async def _captures(
    bench: Bench, field: Field, connection: Connection, wallets: Wallets, count: int
) -> Sequence[Request]:
    holds = [_hold(*pair) for pair in _pairs(bench, wallets, count)]
    return [
        _asked(type="capture", hold_id=str(one)) for one in await _post(field, connection, holds)
    ]


async def _journals(
    bench: Bench, _field: Field, _connection: Connection, wallets: Wallets, count: int
) -> Sequence[Request]:
    pairs = list(_pairs(bench, wallets, 2 * count))
    return [
        _asked(type="journal", legs=_legs(*first, *second))
        for first, second in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def _legs(*wallets: str) -> list[dict[str, str]]:
    return [
        {"wallet_id": wallet, "amount": amount, "currency": "USD"}
        for wallet, amount in zip(wallets, ("-1.00", "0.50", "0.30", "0.20"), strict=True)
    ]


async def _from_one(
    bench: Bench, _field: Field, _connection: Connection, wallets: Wallets, count: int
) -> Sequence[Request]:
    source = str(wallets.rich[0])
    others = [str(one) for one in wallets.rich[1:]]
    chosen = random.Random(bench.next_seed())
    return [_transfer(source, chosen.choice(others)) for _ in range(count)]


async def _from_one_with_holds(
    bench: Bench, field: Field, connection: Connection, wallets: Wallets, count: int
) -> Sequence[Request]:
    source, destination = str(wallets.rich[0]), str(wallets.rich[1])
    open_holds = [_hold(source, destination) for _ in range(OPEN_HOLDS)]
    await _post(field, connection, open_holds)
    return await _from_one(bench, field, connection, wallets, count)


async def _post(field: Field, connection: Connection, requests: Sequence[Request]) -> list[UUID]:
    """Post what a sample rests on, before it is measured."""
    posted: list[UUID] = []
    async with create_pool(
        field.ground.database_url,
        name="bench",
        size=1,
        statement_timeout_s=60,
        session=dict(KEYED_SESSION),
    ) as pool:
        poster = Poster(pool)
        for group in in_groups(requests, GROUP):
            ids = await record(connection, group, submitter=field.ground.submitter)
            await poster.post(ids)
            posted += ids
    await connection.execute(load_queries("tools.bench")["forget_events"])
    return posted


def _draining(name: str, plan: Plan) -> Measure:
    async def measure(bench: Bench) -> dict[str, Figures]:
        async with bench.gated_field() as field, field.ground.books() as connection:
            wallets = await bench.wallets(connection)
            count = bench.count_of(Kind.RECORDED) // 2
            requests = await plan(bench, field, connection, wallets, count)
            figures = await drain(field, connection, Kind.RECORDED, requests)
            await bench.prove(connection, name)
        return {name: figures}

    return measure


_PLANS: Final[dict[str, Plan]] = {
    names.TRANSFERS: _transfers,
    names.HOLDS: _holds,
    names.CAPTURES: _captures,
    names.JOURNALS: _journals,
    names.HOT_ALONE: _from_one,
    names.HOT_WITH_HOLDS: _from_one_with_holds,
}

CASE: Final = Interleaved(
    name=names.TYPES,
    summary="a backlog of each type is posted, and one from a wallet with 100,000 open holds",
    arms=[Arm(name, _draining(name, plan)) for name, plan in _PLANS.items()],
)
