"""What is accepted while the broker confirms nothing is marked before it is answered."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from contracts.identifiers import external_wallet_id
from contracts.rate_limits import parse_rate_limits
from contracts.record import Submission
from contracts.requests.transaction import command_of
from contracts.scopes import Scope
from ingress.access import Guard
from ingress.authentication import ApiKeys, Authenticator, Client
from ingress.calls import Answer, Services, SubmitCall, names_of
from ingress.limits.limiter import LimitRules, RateLimiter, connect_redis
from ingress.reads.transactions import TransactionStore
from ingress.reads.wallets import WalletStore
from ingress.submit.admission import BacklogGauge
from ingress.submit.completion import CompletionWatch
from ingress.submit.recorder import Accepted, Dispatcher, Recorder
from runtime.amqp.publisher import Publisher
from runtime.postgres.pool import Connection, Pool, create_pool
from tests.integration.reconciler.serving import running
from tests.support import deposit

_NO_BROKER = "amqp://guest:guest@127.0.0.1:1/"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool whose server may be asked to refuse."""
    async with create_pool(database_url, name="test", size=4, statement_timeout_s=5) as opened:
        yield opened


@pytest.fixture
async def recorder(pool: Pool) -> AsyncIterator[Recorder]:
    """The recorder of an ingress that never reached its broker; four partitions."""
    dispatcher = Dispatcher(Publisher(_NO_BROKER, name="test"), partitions=4)
    made = Recorder(
        pool=pool,
        dispatcher=dispatcher,
        partitions=4,
        group_size=256,
        flushers=1,
        confirm_timeout_s=0.1,
    )
    async with running(made):
        yield made


def _body(wallet_id: UUID) -> dict[str, object]:
    return deposit(str(wallet_id), "1.00", "EUR")


def _submission(wallet_id: UUID, *, key: str | None = None) -> Submission:
    return Submission("shop", command_of(_body(wallet_id), header_key=key or uuid4().hex))


async def _marks(database: Connection) -> list[tuple[int, str, UUID]]:
    rows = await database.fetch("SELECT * FROM unannounced_transactions ORDER BY transaction_id")
    return [tuple(row) for row in rows]


async def test_it_is_marked_with_its_partition_and_its_submitter(
    recorder: Recorder, database: Connection
) -> None:
    wallets = [uuid4() for _ in range(8)]
    outcomes = await recorder.accept([_submission(one) for one in wallets])

    marks = await _marks(database)
    assert [one.row.id for one in outcomes if isinstance(one, Accepted)] == [
        row[2] for row in marks
    ]
    assert {row[1] for row in marks} == {"shop"}
    assert len({row[0] for row in marks}) > 1
    assert external_wallet_id("EUR") not in wallets


async def test_a_replay_of_what_is_still_pending_is_marked_once(
    recorder: Recorder, database: Connection
) -> None:
    one = _submission(uuid4(), key="same")
    await recorder.accept([one])
    await recorder.accept([one])

    assert len(await _marks(database)) == 1


async def test_where_it_can_be_neither_announced_nor_marked_the_client_is_told_to_try_again(
    recorder: Recorder, database: Connection
) -> None:
    await database.execute("ALTER TABLE unannounced_transactions RENAME TO away")
    one = _submission(uuid4(), key="again")
    [refused] = await recorder.accept([one])
    await database.execute("ALTER TABLE away RENAME TO unannounced_transactions")
    [accepted] = await recorder.accept([one])

    assert isinstance(refused, asyncpg.UndefinedTableError)
    assert isinstance(accepted, Accepted)
    assert [row[2] for row in await _marks(database)] == [accepted.row.id]


async def test_such_a_submission_is_not_answered_202(
    recorder: Recorder, pool: Pool, database: Connection
) -> None:
    await database.execute("ALTER TABLE unannounced_transactions RENAME TO away")
    services = Services(
        callers=Authenticator(keys=ApiKeys(pool), tokens=ApiKeys(pool)),
        guard=Guard(pool),
        recorder=recorder,
        store=TransactionStore(pool, lists=pool),
        wallets=WalletStore(pool, lists=pool),
        completion=CompletionWatch(url="", pool=pool),
        backlog=BacklogGauge(pool, backlog_max=1),
        limiter=RateLimiter(
            connect_redis("redis://127.0.0.1:1"), LimitRules(parse_rate_limits(""), {})
        ),
    )
    outcome: asyncio.Future[Answer | Exception] = asyncio.get_running_loop().create_future()
    call = SubmitCall(
        services,
        body=orjson.dumps(_body(uuid4())),
        header_key=uuid4().hex,
        names=names_of(None, None),
        wait_s=0,
        finish=outcome.set_result,
    )
    call.begin_for(Client("shop", frozenset({Scope.TRANSACTIONS_WRITE})))

    async with asyncio.timeout(20):
        assert isinstance(await outcome, asyncpg.UndefinedTableError)


async def test_marks_of_many_groups_share_an_insert_and_lose_none(
    recorder: Recorder, database: Connection
) -> None:
    groups = [[_submission(uuid4()) for _ in range(20)] for _ in range(20)]
    await asyncio.gather(*(recorder.accept(group) for group in groups))

    assert len(await _marks(database)) == 400
