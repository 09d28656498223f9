"""What a process posts is claimed for its relay from birth, and told of from memory."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from processor.events.buffer import BORN_CLAIMED_S, CLAIMANT_SETTING, EventBuffer
from processor.events.outbox import Outbox
from processor.events.relay import OWED_MAX, OutboxRelay
from processor.poster import Poster
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import NotConfirmedError, Publisher
from runtime.postgres.pool import KEYED_SESSION, Connection, Pool, create_pool
from tests.integration.processor.books import add_wallets, record, transfer_command
from tests.integration.relay.queues import bind_queue, emptied
from tests.integration.relay.relaying import ids_of, owed_rows, relay_of
from tests.support import eventually

_QUEUE = "events"
_UPDATED = """
SELECT pg_stat_get_tuples_updated('outbox'::regclass) FROM pg_stat_clear_snapshot()
"""
_DELETED = """
SELECT pg_stat_get_tuples_deleted('outbox'::regclass) FROM pg_stat_clear_snapshot()
"""
_UNCLAIM = "UPDATE outbox SET claimed_until = clock_timestamp()"


@pytest.fixture
def memory() -> EventBuffer:
    """What the process remembers of its commits."""
    return EventBuffer(claimant=uuid4())


@pytest.fixture
async def pool(database_url: str, memory: EventBuffer) -> AsyncIterator[Pool]:
    """The processor's pool: its sessions say for whom they owe."""
    session = {**KEYED_SESSION, CLAIMANT_SETTING: str(memory.claimant)}
    pool = create_pool(database_url, name="test", size=4, statement_timeout_s=60, session=session)
    async with pool:
        yield pool


@pytest.fixture
async def relay(
    pool: Pool, publisher: Publisher, memory: EventBuffer, channel: Channel
) -> OutboxRelay:
    """A relay that has claimed what there was: nothing."""
    await bind_queue(channel, _QUEUE)
    relay = relay_of(pool, publisher, event_buffer=memory)
    assert (await relay.run_once()).owed == 0
    return relay


class Bank:
    """Two wallets, and transfers between them, which become PENDING in their order."""

    def __init__(self, database: Connection, poster: Poster, wallets: Sequence[UUID]) -> None:
        self._database = database
        self._poster = poster
        self._wallets = wallets

    async def post(self, *amounts: int) -> list[UUID]:
        """Post a batch of transfers of these minor units; return their ids."""
        source, destination = self._wallets
        transfers = [transfer_command(uuid4().hex, source, destination, one) for one in amounts]
        ids = await record(self._database, transfers)
        await self._poster.post(ids)
        return ids


@pytest.fixture
async def bank(pool: Pool, database: Connection, memory: EventBuffer) -> Bank:
    """Transfers of more than 1,000,000 minor units are refused."""
    wallets = await add_wallets(database, 2, balance=1_000_000)
    return Bank(database, Poster(pool, event_buffer=memory), wallets)


async def test_what_was_just_posted_is_told_of_without_being_claimed(
    bank: Bank, relay: OutboxRelay, database: Connection, channel: Channel
) -> None:
    first, second = await bank.post(1, 2), await bank.post(3)
    told = await relay.run_once()

    async def counted() -> bool:
        # Sessions tell of what they did within a second.
        return bool(await database.fetchval(_DELETED) == 2)

    assert (told.owed, told.events, await owed_rows(database)) == (2, 3, 0)
    await eventually(counted, what="the statistics of the outbox")
    assert await database.fetchval(_UPDATED) == 0
    assert ids_of(await emptied(channel, _QUEUE)) == [*first, *second]


async def test_nobody_else_takes_what_is_born_claimed_until_its_claim_runs_out(
    bank: Bank, database: Connection, database_url: str
) -> None:
    await bank.post(1)
    born_claimed_s = await database.fetchval(
        "SELECT extract(epoch FROM claimed_until - created_at) FROM outbox"
    )
    other = create_pool(database_url, name="other", size=1, statement_timeout_s=60)
    async with other:
        outbox = Outbox(other)
        early = await outbox.claim(OWED_MAX, least_age_s=0)
        await database.execute(_UNCLAIM)
        late = await outbox.claim(OWED_MAX, least_age_s=0)

    assert float(born_claimed_s) == pytest.approx(BORN_CLAIMED_S, abs=1)
    assert (len(early), len(late)) == (0, 1)


async def test_a_session_that_names_nobody_owes_what_anybody_claims(
    database: Connection, database_url: str
) -> None:
    alice, bob = await add_wallets(database, 2, balance=100)
    ids = await record(database, [transfer_command("key", alice, bob, 1)])
    plain = create_pool(database_url, name="plain", size=2, statement_timeout_s=60)
    async with plain:
        await Poster(plain).post(ids)
        claimed = await Outbox(plain).claim(OWED_MAX, least_age_s=0)

    assert [one.transaction_ids for one in claimed] == [ids]


async def test_a_commit_with_a_refusal_is_told_of_in_its_turn(
    bank: Bank, relay: OutboxRelay, database: Connection, channel: Channel
) -> None:
    before = await bank.post(1)
    mixed = await bank.post(2, 10**12)
    refused = await bank.post(10**12)
    behind = await bank.post(3)
    await relay.run_once()

    assert await owed_rows(database) == 0
    assert ids_of(await emptied(channel, _QUEUE)) == [*before, *mixed, *refused, *behind]


async def test_what_a_failed_round_took_from_memory_is_told_of_by_the_next(
    bank: Bank, relay: OutboxRelay, pool: Pool, memory: EventBuffer, channel: Channel
) -> None:
    ids = await bank.post(1, 2)
    # It is not connected: nothing is published.
    offline = Publisher("amqp://nobody@localhost/", name="offline")
    unreachable = relay_of(pool, offline, event_buffer=memory)
    unreachable._claim_at = float("inf")  # it takes from memory, whatever the time
    with pytest.raises(NotConfirmedError):
        await unreachable.run_once()
    behind = await bank.post(3)
    told = await relay.run_once()

    assert told.owed == 2
    assert ids_of(await emptied(channel, _QUEUE)) == [*ids, *behind]


async def test_a_claim_that_was_quicker_than_its_poster_tells_once(
    bank: Bank, memory: EventBuffer, relay: OutboxRelay, database: Connection, channel: Channel
) -> None:
    ids = await bank.post(1)
    [owed] = memory.oldest(OWED_MAX)
    batch = memory.get(owed.outbox_id)
    assert batch is not None
    memory.forget(owed.outbox_id)
    memory.has_others = True
    await relay.run_once()
    # Only now the poster comes to put it there.
    memory.keep(owed.outbox_id, batch, owed=owed)

    assert memory.oldest(OWED_MAX) == []
    assert ids_of(await emptied(channel, _QUEUE)) == ids
    assert await owed_rows(database) == 0
