"""Of several processes that publish what others post one works, and it is one that can."""

import pytest

from processor.events.refused import FLIGHT_MAX
from processor.events.relay import OWED_MAX
from processor.events.shared_relay import LEAD_KEY, SharedRelay
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool
from tests.integration.reconciler.serving import running
from tests.integration.relay.queues import at_least, bind_queue, emptied
from tests.integration.relay.relaying import ids_of, post, relay_of
from tests.support import eventually

_QUEUE = "events"
_LED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = $1"


class _Relays:
    """Relays on one database, what they have to publish, and a queue that takes it."""

    def __init__(self, url: str, pool: Pool, database: Connection, channel: Channel) -> None:
        self._url = url
        self._pool = pool
        self._database = database
        self._channel = channel

    def of(self, publisher: Publisher) -> SharedRelay:
        relay = relay_of(self._pool, publisher, left_behind_s=0.0)
        return SharedRelay(self._url, relay=relay, publisher=publisher)

    async def lead(self) -> None:
        """Return when one of them leads."""

        async def look() -> bool:
            return bool(await self._database.fetchval(_LED, LEAD_KEY))

        await eventually(look, what="a relay that leads")

    async def assert_published(self, *, batches: int, batch: int = FLIGHT_MAX) -> None:
        """Post batches; their events arrive once, in the order of posting."""
        ids = await post(self._pool, self._database, batches=batches, batch=batch)
        await at_least(self._channel, _QUEUE, len(ids))
        assert ids_of(await emptied(self._channel, _QUEUE)) == ids


@pytest.fixture
async def relays(database_url: str, pool: Pool, database: Connection, channel: Channel) -> _Relays:
    """Relays that have nothing to publish yet."""
    await bind_queue(channel, _QUEUE)
    return _Relays(database_url, pool, database, channel)


async def test_of_two_one_publishes_all_in_order(
    relays: _Relays, publisher: Publisher, broker_url: str
) -> None:
    other = Publisher(broker_url, name="test-other")
    async with (
        running(other),
        running(relays.of(publisher)),
        running(relays.of(other)),
    ):
        await other.wait_until_up()
        await relays.lead()
        await relays.assert_published(batches=2 * OWED_MAX, batch=20)


async def test_one_without_a_broker_does_not_keep_the_others_from_it(
    relays: _Relays, publisher: Publisher
) -> None:
    offline = Publisher("amqp://nobody@localhost/", name="offline")
    async with running(relays.of(offline)), running(relays.of(publisher)):
        await relays.assert_published(batches=2)


async def test_one_that_loses_its_broker_lets_another_lead(
    relays: _Relays, publisher: Publisher, broker_url: str
) -> None:
    lost = Publisher(broker_url, name="test-lost")
    async with running(relays.of(lost)):
        async with running(lost):
            await relays.lead()
        async with running(relays.of(publisher)):
            await relays.assert_published(batches=2)
