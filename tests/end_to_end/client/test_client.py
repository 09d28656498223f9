"""The client moves money, and nothing is lost or doubled, whatever the network does."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from ackledger.client import (
    AsyncClient,
    AsyncPublisher,
    BrokerRefusedError,
    Capture,
    Client,
    Condition,
    ConflictError,
    Deposit,
    FailureCode,
    Followed,
    Hold,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    Journal,
    Leg,
    NotFoundError,
    Problem,
    ProblemError,
    Publisher,
    Release,
    Reset,
    Reversal,
    Transaction,
    TransactionRequest,
    Transfer,
    UnauthenticatedError,
    UnroutableError,
    WaitTimeoutError,
    Wallet,
    Withdrawal,
)
from contracts.topology import TRANSACTIONS_EXCHANGE
from runtime.amqp.connection import close, connect, open_channel
from tests.conftest import Doors
from tests.support import eventually
from tools.chaos.proxy import Proxy
from tools.stack import Stack, add_vhost, remove_vhost

_MANY = 205
"""More than a page holds."""


@pytest.fixture
async def client(doors: Doors) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(doors.system.http_url, doors.system.api_key) as opened:
        yield opened


async def funded(client: AsyncClient, amount: str = "100.00") -> Wallet:
    wallet = await client.create_wallet(currency="EUR")
    await posted(client, Deposit(destination_wallet_id=wallet.id, amount=amount, currency="EUR"))
    return await client.read_wallet(wallet.id)


async def posted(client: AsyncClient, request: TransactionRequest) -> Transaction:
    transaction = await client.submit(request, wait_s=20)
    assert transaction.status == "COMPLETED", transaction
    return transaction


def transfer(source: Wallet, destination: Wallet, amount: str = "1.00") -> Transfer:
    return Transfer(
        source_wallet_id=source.id,
        destination_wallet_id=destination.id,
        amount=amount,
        currency="EUR",
    )


async def test_every_type_is_posted_and_read_with_exact_amounts(client: AsyncClient) -> None:
    rich, poor = await funded(client), await client.create_wallet(currency="EUR")
    moved = await posted(client, transfer(rich, poor, "10.10"))
    await posted(client, Reversal(reverses=moved.id, amount="0.10"))
    held = [
        await posted(client, Hold(source_wallet_id=rich.id, amount="5.00", currency="EUR"))
        for _ in range(2)
    ]
    await posted(client, Capture(hold_id=held[0].id, amount="2.00", final=False))
    await posted(client, Release(hold_id=held[1].id))
    await posted(
        client, Withdrawal(source_wallet_id=poor.id, amount=Decimal("0.50"), currency="EUR")
    )
    legs = [
        Leg(wallet_id=rich.id, amount="-1.00", currency="EUR"),
        Leg(external=True, amount="1.00", currency="EUR"),
    ]
    await posted(client, Journal(legs=legs))

    after = await client.read_wallet(rich.id)
    assert (after.balance, after.held) == (Decimal("87.00"), Decimal("3.00"))
    assert (await client.read_wallet(poor.id)).balance == Decimal("9.50")
    assert [one.remaining async for one in client.list_holds(rich.id, status="OPEN")] == [3]
    assert (await client.read_balance(rich.id, at=rich.updated_at)).balance <= 100


async def test_a_refusal_is_a_value_and_says_why(client: AsyncClient) -> None:
    poor, other = [await client.create_wallet(currency="EUR") for _ in range(2)]

    refused = await client.submit(transfer(poor, other), wait_s=20)

    assert refused.status == "FAILED"
    assert refused.failure is not None
    assert refused.failure.code is FailureCode.INSUFFICIENT_FUNDS


async def test_the_same_request_again_is_the_same_transaction(client: AsyncClient) -> None:
    wallet = await client.create_wallet(currency="EUR")
    request = Deposit(destination_wallet_id=wallet.id, amount="7.00", currency="EUR")

    first, second = await posted(client, request), await posted(client, request)

    assert first.id == second.id
    assert (await client.read_wallet(wallet.id)).balance == 7
    assert await client.find_transaction(idempotency_key=request.idempotency_key) == second
    other = Deposit(
        destination_wallet_id=wallet.id,
        amount="8.00",
        currency="EUR",
        idempotency_key=request.idempotency_key,
    )
    with pytest.raises(IdempotencyKeyReusedError) as reused:
        await client.submit(other)
    assert reused.value.request_id


async def test_a_problem_names_what_is_wrong_and_where(client: AsyncClient) -> None:
    bad = Deposit(destination_wallet_id="no id", amount="0.001", currency="EUR")

    with pytest.raises(InvalidRequestError) as refused:
        await client.submit(bad)

    assert refused.value.code == "validation_failed"
    assert "/destination_wallet_id" in {one.pointer for one in refused.value.errors}
    with pytest.raises(NotFoundError):
        await client.read_transaction(uuid4())


async def test_a_wrong_key_is_told_and_not_shown(doors: Doors) -> None:
    async with AsyncClient(doors.system.http_url, "ack_wrong_key") as stranger:
        with pytest.raises(UnauthenticatedError) as refused:
            await stranger.read_wallet(uuid4())
    assert "ack_wrong_key" not in f"{refused.value!r} {refused.value}"


async def test_one_bad_item_of_a_batch_fails_by_itself_or_all_of_an_atomic_one(
    client: AsyncClient,
) -> None:
    rich, poor = await funded(client), await client.create_wallet(currency="EUR")
    good, bad = transfer(rich, poor), transfer(rich, poor, "0.001")

    accepted, refused = await client.submit_batch([good, bad])

    assert isinstance(accepted, Transaction)
    assert (await client.wait(accepted.id)).status == "COMPLETED"
    assert isinstance(refused, ProblemError)
    assert refused.code == "validation_failed"
    with pytest.raises(InvalidRequestError):
        await client.submit_batch([transfer(rich, poor), bad], mode="atomic")
    both = await client.submit_batch(
        [transfer(rich, poor), transfer(rich, poor, "500.00")], mode="atomic"
    )
    ended = [await client.wait(one.id) for one in both if isinstance(one, Transaction)]
    assert [one.failure and one.failure.code for one in ended] == [
        "batch_failed",
        "insufficient_funds",
    ]


async def test_a_preview_tells_the_end_and_writes_nothing(client: AsyncClient) -> None:
    rich, poor = await funded(client), await client.create_wallet(currency="EUR")

    preview = await client.preview([transfer(rich, poor, "60.00"), transfer(rich, poor, "60.00")])

    assert [one.status for one in preview.transactions] == ["COMPLETED", "FAILED"]
    assert (await client.read_wallet(rich.id)).balance == 100


async def test_what_is_scheduled_is_waited_for_in_vain_and_cancelled_once(
    client: AsyncClient,
) -> None:
    rich, poor = await funded(client), await client.create_wallet(currency="EUR")
    later = Transfer(
        source_wallet_id=rich.id,
        destination_wallet_id=poor.id,
        amount="1.00",
        currency="EUR",
        execute_at=datetime.now(UTC) + timedelta(days=1),
        conditions=[Condition(wallet_id=rich.id, available_at_least="50.00")],
    )
    scheduled = await client.submit(later)

    with pytest.raises(WaitTimeoutError) as late:
        await client.wait(scheduled.id, timeout_s=0.5)
    assert late.value.transaction.status == "SCHEDULED"
    cancelled = await client.cancel(scheduled.id)
    assert cancelled.failure is not None
    assert cancelled.failure.code == "cancelled"
    with pytest.raises(ConflictError):
        await client.cancel(scheduled.id)


async def test_lists_go_on_over_pages_to_their_end(client: AsyncClient) -> None:
    wallet = await client.create_wallet(currency="EUR", owner_id=f"owner-{uuid4()}")
    requests = [
        Deposit(
            destination_wallet_id=wallet.id,
            amount="0.01",
            currency="EUR",
            metadata={"number": number},
        )
        for number in range(_MANY)
    ]
    answers = await client.submit_batch(requests)
    ids = [one.id for one in answers if isinstance(one, Transaction)]
    await client.wait(ids[-1])

    entries = [one async for one in client.list_entries(wallet.id, type="deposit")]
    listed = [one.id async for one in client.list_transactions(wallet_id=wallet.id)]

    assert [one.sequence for one in entries] == list(range(_MANY, 0, -1))
    assert sorted(listed) == sorted(ids)
    found = client.list_transactions(wallet_id=wallet.id, metadata=("number", "7"))
    assert [one.id async for one in found] == [ids[7]]
    assert [one.id async for one in client.list_wallets(owner_id=wallet.owner_id)] == [wallet.id]


async def test_a_wallet_is_made_once_for_a_key_changed_and_closed(client: AsyncClient) -> None:
    key = str(uuid4())
    first = await client.create_wallet(currency="EUR", kind="customer", idempotency_key=key)
    again = await client.create_wallet(currency="EUR", kind="customer", idempotency_key=key)
    changed = await client.change_wallet(
        first.id, status="FROZEN", overdraft_limit=Decimal("5.00"), metadata={"why": "asked"}
    )

    assert again.id == first.id
    assert (changed.status, changed.available) == ("FROZEN", Decimal("5.00"))
    assert changed.metadata == {"why": "asked"}


async def test_a_submission_whose_answer_is_lost_is_sent_again_and_moves_money_once(
    doors: Doors, client: AsyncClient
) -> None:
    wallet = await client.create_wallet(currency="EUR")
    request = Deposit(destination_wallet_id=wallet.id, amount="3.00", currency="EUR")
    async with Proxy.to(doors.system.http_url) as proxy:
        url = proxy.through(doors.system.http_url)
        async with AsyncClient(url, doors.system.api_key) as through:
            with proxy.trapped(request.idempotency_key.encode()) as trap:
                submitting = asyncio.create_task(through.submit(request, wait_s=20))
                await trap.sprung.wait()
            proxy.cut()
            transaction = await submitting
            assert through.retries >= 1

    assert transaction.status == "COMPLETED"
    assert (await client.read_wallet(wallet.id)).balance == 3


async def test_no_event_is_missed_over_connections_that_break(
    doors: Doors, client: AsyncClient
) -> None:
    wallet = await client.create_wallet(currency="EUR")
    async with Proxy.to(doors.system.http_url) as proxy:
        url = proxy.through(doors.system.http_url)
        async with AsyncClient(url, doors.system.api_key) as through:
            first = await posted_deposits(client, wallet, 1)
            items = through.follow_events(wallet_id=wallet.id, last_event_id=await before(client))
            seen = await taken_from(items, 1)
            with proxy.refusing():
                rest = await posted_deposits(client, wallet, 3)
            seen += await taken_from(items, 3)

    assert [one.event.id for one in seen] == [*first, *rest]
    assert [one.event.amount for one in seen] == [Decimal("1.00")] * 4
    assert seen[-1].event.wallets[0].balance == 4


async def taken_from(items: AsyncIterator[Followed | Reset], count: int) -> list[Followed]:
    """Take so many without ending the iteration."""
    found: list[Followed] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            item = await anext(items)
            if isinstance(item, Followed):
                found.append(item)
    return found


async def before(client: AsyncClient) -> str:
    """The id of the first event that is kept: all that a wallet sees comes after it."""
    answer = await client.call("GET", "/v1/events", parameters={"limit": "1"})
    return str(answer.wanted()["last_id"])


async def posted_deposits(client: AsyncClient, wallet: Wallet, count: int) -> Sequence[UUID]:
    return [
        (
            await posted(
                client, Deposit(destination_wallet_id=wallet.id, amount="1.00", currency="EUR")
            )
        ).id
        for _ in range(count)
    ]


async def test_a_place_that_is_not_kept_is_told_first_and_following_goes_on(
    client: AsyncClient,
) -> None:
    wallet = await client.create_wallet(currency="EUR")
    items = client.follow_events(wallet_id=wallet.id, last_event_id="999999999-0badcafe")

    async with asyncio.timeout(30):
        assert await anext(items) == Reset()
        waiting = asyncio.ensure_future(anext(items))
        [transaction_id] = await posted_deposits(client, wallet, 1)
        item = await waiting
    assert isinstance(item, Followed)
    assert item.event.id == transaction_id


async def test_following_what_is_not_allowed_ends_with_the_problem(client: AsyncClient) -> None:
    with pytest.raises(ProblemError) as refused:
        await anext(client.follow_events(type="no such type"))
    assert refused.value.code == "invalid_parameter"


async def test_the_blocking_client_serves_threads_and_programs_with_a_loop(doors: Doors) -> None:
    with Client(doors.system.http_url, doors.system.api_key) as blocking:
        wallet = blocking.create_wallet(currency="EUR")
        request = Deposit(destination_wallet_id=wallet.id, amount="1.00", currency="EUR")

        def submit() -> None:
            assert blocking.submit(request, wait_s=20).status == "COMPLETED"

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            await asyncio.to_thread(one.join)
        # As a notebook does: in the thread of a loop that runs.
        assert [one.amount for one in blocking.list_entries(wallet.id)] == [Decimal("1.00")]
        with pytest.raises(NotFoundError) as missing:
            blocking.read_wallet(uuid4())
        assert isinstance(missing.value.problem, Problem)
        events = blocking.follow_events(last_event_id="999999999-0badcafe")
        assert next(events) == Reset()
        events.close()
    with pytest.raises(RuntimeError, match="closed"):
        blocking.read_wallet(wallet.id)


async def test_closing_ends_what_other_threads_wait_for(doors: Doors) -> None:
    blocking = Client(doors.system.http_url, doors.system.api_key)
    events = blocking.follow_events(last_event_id="999999999-0badcafe")
    assert next(events) == Reset()
    waiting = asyncio.create_task(asyncio.to_thread(next, events))

    blocking.close()

    with pytest.raises(RuntimeError, match="closed"):
        await waiting


def upstream_url(doors: Doors) -> str:
    return doors.upstream.url


async def ended(client: AsyncClient, request: TransactionRequest) -> Transaction:
    async def look() -> Transaction | None:
        return await client.find_transaction(idempotency_key=request.idempotency_key)

    return await client.wait((await eventually(look, what="the message is recorded")).id)


async def test_what_is_published_is_posted_once(doors: Doors, client: AsyncClient) -> None:
    rich, poor = await funded(client), await client.create_wallet(currency="EUR")
    single, several = transfer(rich, poor), [transfer(rich, poor), transfer(rich, poor)]
    hold = await posted(client, Hold(source_wallet_id=rich.id, amount="5.00", currency="EUR"))
    capture = Capture(hold_id=hold.id)

    async with AsyncPublisher(upstream_url(doors)) as publisher:
        await publisher.publish(single)
        await publisher.publish(single)
        await publisher.publish_batch(several, mode="atomic")
        await publisher.publish(capture, ordered_by=rich.id)
        with pytest.raises(ValueError, match="ordered_by"):
            await publisher.publish(capture)
        with pytest.raises(ValueError, match="HTTP alone"):
            await publisher.publish(Reversal(reverses=hold.id, force=True), ordered_by=rich.id)

    sent: list[TransactionRequest] = [single, *several, capture]
    for request in sent:
        assert (await ended(client, request)).status == "COMPLETED"
    assert (await client.read_wallet(rich.id)).balance == 92


async def test_a_blocking_publisher_does_the_same(doors: Doors, client: AsyncClient) -> None:
    wallet = await client.create_wallet(currency="EUR")
    request = Deposit(destination_wallet_id=wallet.id, amount="2.00", currency="EUR")

    with Publisher(upstream_url(doors)) as publisher:
        publisher.publish(request)

    assert (await ended(client, request)).channel == "amqp"


async def test_a_message_that_no_queue_takes_raises(stack: Stack) -> None:
    name = f"test_{uuid4().hex[:12]}"
    url = await asyncio.to_thread(add_vhost, stack, name)
    try:
        connection = await connect(url, name="test")
        channel = await open_channel(connection)
        await channel.exchange_declare(TRANSACTIONS_EXCHANGE, exchange_type="topic")
        async with AsyncPublisher(url) as publisher:
            for _ in range(2):
                with pytest.raises(UnroutableError):
                    await publisher.publish(Release(hold_id=uuid4()), ordered_by=uuid4())
        await close(connection)
    finally:
        await asyncio.to_thread(remove_vhost, stack, name)


async def test_a_wrong_password_is_told_and_not_shown(doors: Doors) -> None:
    url = upstream_url(doors).replace("demo:demo-", "demo:wrong-")

    with pytest.raises(BrokerRefusedError) as refused:
        await AsyncPublisher(url).open()
    assert "wrong-" not in f"{refused.value!r} {refused.value}"
