"""Posting and events in processes of their own: nothing is lost, and the order stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import orjson
import psutil
import pytest

from runtime.amqp.connection import Channel, close, connect, open_channel
from runtime.postgres.pool import Connection
from runtime.postgres.pool import connect as connect_to_database
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.relay.queues import at_least, bind_queue, depth, emptied
from tests.integration.relay.relaying import assert_each_has_one_event, ids_of, owed_rows
from tests.support import Api, deposit, eventually, transfer
from tools.stack import Stack
from tools.system import Instance, Role

_DUTY: Final = "ACKLEDGER_PROCESSOR_DUTY"
_EVENTS: Final = ("events", "events-standby")
_INSTANCES: Final = (
    Instance(role=Role.INGRESS),
    Instance(role=Role.PROCESSOR, environment={_DUTY: "posting"}),
    *(Instance(role=Role.PROCESSOR, name=one, environment={_DUTY: "events"}) for one in _EVENTS),
    Instance(role=Role.RECONCILER),
)
_TRANSFERS: Final = 20
_LEADERS: Final = """
SELECT a.client_port FROM pg_locks AS l INNER JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'ackledger-relay-lead'
AND a.datname = current_database()
"""


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system with one process that posts and two that publish events."""
    directory = tmp_path_factory.mktemp("duties")
    async with open_doors(stack, template, directory, instances=_INSTANCES) as opened:
        yield opened


@pytest.fixture
async def books(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """The database of the system."""
    connection = await connect_to_database(doors.database_url, name="test")
    yield connection
    await connection.close()


@pytest.fixture
async def channel(doors: CheckedDoors) -> AsyncIterator[Channel]:
    """A channel of the system's virtual host."""
    connection = await connect(doors.amqp_url, name="test")
    yield await open_channel(connection)
    await close(connection)


class _Bank:
    """Two wallets, whose transfers are posted one after the other."""

    def __init__(self, doors: CheckedDoors, channel: Channel, queue: str) -> None:
        self._doors = doors
        self.channel = channel
        self.queue = queue
        self.wallets = ("", "")

    async def open(self) -> None:
        api = self._doors.api
        self.wallets = (await api.create_wallet(), await api.create_wallet())
        await api.submit(deposit(self.wallets[0], "100.00"))

    async def transfer(self, count: int) -> list[str]:
        """Return the ids of transfers that are COMPLETED, in their order."""
        ids = []
        for _ in range(count):
            answer = await self._doors.api.submit(transfer(*self.wallets, "1.00"))
            assert answer.json["status"] == "COMPLETED", answer.body
            ids.append(str(answer.json["id"]))
        return ids

    async def assert_events(self, ids: list[str]) -> None:
        """Assert that the events of these, and no other, arrive once and in this order."""
        await at_least(self.channel, self.queue, len(ids))
        arrived = await emptied(self.channel, self.queue)
        assert [str(one) for one in ids_of(arrived)] == ids
        assert_each_has_one_event(arrived, ids_of(arrived))


@pytest.fixture
async def bank(
    doors: CheckedDoors, books: Connection, channel: Channel, request: pytest.FixtureRequest
) -> _Bank:
    """Its queue is bound once the event of its deposit is published."""
    bank = _Bank(doors, channel, request.node.name)
    await bank.open()
    await _emptied_outbox(books)
    await bind_queue(channel, bank.queue)
    return bank


async def _emptied_outbox(books: Connection) -> None:
    """Return when no event is owed: a row is deleted after its events have arrived."""

    async def look() -> bool:
        return await owed_rows(books) == 0

    await eventually(look, what="an empty outbox")


@asynccontextmanager
async def _halted(doors: CheckedDoors, *names: str) -> AsyncIterator[None]:
    for name in names:
        await asyncio.to_thread(doors.system.halt, name)
    try:
        yield
    finally:
        for name in names:
            await asyncio.to_thread(doors.system.restart, name)


async def _leader(doors: CheckedDoors, books: Connection) -> str:
    """Return the name of the process whose session has the lead."""

    async def look() -> str | None:
        ports = {row["client_port"] for row in await books.fetch(_LEADERS)}
        return next((one for one in _EVENTS if ports & _ports_of(doors, one)), None)

    return await eventually(look, what="a relay that leads")


def _ports_of(doors: CheckedDoors, name: str) -> set[int]:
    pid = doors.system.pid(name)
    return {one.laddr.port for one in psutil.Process(pid).net_connections()} if pid else set()


async def test_what_one_process_posts_another_publishes_once_and_in_order(
    bank: _Bank, books: Connection
) -> None:
    ids = await bank.transfer(_TRANSFERS)

    await bank.assert_events(ids)
    await _emptied_outbox(books)


async def test_money_moves_while_nobody_publishes_and_the_events_come_afterwards(
    doors: CheckedDoors, bank: _Bank, books: Connection
) -> None:
    async with _halted(doors, *_EVENTS):
        ids = await bank.transfer(_TRANSFERS)
        unclaimed = await books.fetchval("SELECT count(*) FROM outbox WHERE claimed_by IS NULL")
        logs = [doors.system.log(one).read_text().splitlines()[-1] for one in _EVENTS]

        assert (unclaimed, await depth(bank.channel, bank.queue)) == (_TRANSFERS, 0)
        assert [orjson.loads(one)["event"] for one in logs] == ["service_stopped"] * len(_EVENTS)
    await bank.assert_events(ids)


async def test_when_the_relay_is_killed_the_other_process_goes_on(
    doors: CheckedDoors, bank: _Bank, books: Connection
) -> None:
    first = await _leader(doors, books)
    await asyncio.to_thread(doors.system.kill, first)
    ids = await bank.transfer(_TRANSFERS)

    await bank.assert_events(ids)
    assert await _leader(doors, books) != first
    await asyncio.to_thread(doors.system.restart, first)


async def test_a_process_without_posting_is_ready_when_it_reaches_both_servers(
    doors: CheckedDoors,
) -> None:
    async with Api(doors.system.status_urls[_EVENTS[0]], None) as status:
        answer = await status.get("/readyz")

    assert (answer.status, answer.json["dependencies"].keys()) == (200, {"database", "broker"})
