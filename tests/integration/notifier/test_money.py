"""People are told of their money once, whatever the broker delivers, and strangers of nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from contracts.messages import QUEUE_HEADER, REASON_HEADER
from contracts.topology import DEAD_LETTERS, EVENTS_EXCHANGE, NOTIFICATIONS, EventQueues
from notifier.money import MoneyNotifications, UnreadableEventError, changes_of
from runtime.amqp.connection import Channel
from runtime.amqp.publisher import Outgoing, Publisher
from runtime.amqp.topology import check_queue, declare_topology
from runtime.postgres.pool import Connection, Pool
from tests.integration.reconciler.serving import running
from tests.support import eventually

AT = "2026-11-28T10:00:00.123456Z"


@pytest.fixture
async def notifications(
    broker_url: str, pool: Pool, publisher: Publisher
) -> AsyncIterator[MoneyNotifications]:
    """The notifier's consumer, at work, with its queue bound."""
    await declare_topology(broker_url, partitions=1, events=EventQueues(notify_money=True))
    money = MoneyNotifications(broker_url, pool=pool, publisher=publisher)
    async with running(money):
        yield money


async def _person(database: Connection, *, is_mail_wanted: bool = False) -> UUID:
    user_id = uuid4()
    await database.execute(
        "INSERT INTO users (id, email, password_hash, status, is_mail_wanted, confirmed_at)"
        " VALUES ($1, $2, 'x', 'ACTIVE', $3, clock_timestamp())",
        user_id,
        f"{user_id}@example.com",
        is_mail_wanted,
    )
    return user_id


async def _wallet(database: Connection, owner: object, currency: str = "EUR") -> UUID:
    wallet_id = uuid4()
    await database.execute(
        "INSERT INTO wallets (id, owner_id, currency) VALUES ($1, $2, $3)",
        wallet_id,
        None if owner is None else str(owner),
        currency,
    )
    return wallet_id


def _event(*legs: tuple[UUID, str, str], event_id: UUID | None = None, **more: Any) -> bytes:
    """Return an event's body; `legs` are wallet, amount and balance after."""
    return orjson.dumps(
        {
            "event_id": str(event_id or uuid4()),
            "event_type": "transaction.completed",
            "occurred_at": AT,
            "id": str(uuid4()),
            "reference": "TXN-A",
            "type": "transfer",
            "description": "a secret between two",
            "entries": [
                {
                    "wallet_id": str(wallet_id),
                    "sequence": number,
                    "amount": amount,
                    "balance_before": "0.00",
                    "balance_after": balance,
                }
                for number, (wallet_id, amount, balance) in enumerate(legs, start=1)
            ],
            **more,
        }
    )


async def _publish(publisher: Publisher, *bodies: bytes, kind: str = "transfer") -> None:
    for body in bodies:
        message = Outgoing(
            exchange=EVENTS_EXCHANGE,
            routing_key=f"transaction.completed.{kind}.EUR",
            body=body,
            type="transaction.completed.v1",
        )
        await publisher.publish(message, timeout_s=5)


async def _told(database: Connection, count: int) -> list[Mapping[str, Any]]:
    async def look() -> list[Mapping[str, Any]]:
        rows = await database.fetch("SELECT * FROM notifications ORDER BY id")
        return [dict(row) for row in rows] if len(rows) >= count else []

    return await eventually(look, what=f"{count} notifications")


async def _drained(channel: Channel) -> None:
    async def look() -> bool:
        return await check_queue(channel, NOTIFICATIONS) == 0

    await eventually(look, what="an empty queue")


@pytest.mark.usefixtures("notifications")
async def test_payer_and_payee_are_told_of_their_own_side(
    database: Connection, publisher: Publisher
) -> None:
    payer, payee = await _person(database), await _person(database)
    source, destination = await _wallet(database, payer), await _wallet(database, payee)
    await _publish(publisher, _event((source, "-12.50", "87.50"), (destination, "12.50", "12.50")))
    told = {row["user_id"]: row for row in await _told(database, 2)}
    body = orjson.loads(told[payee]["body"])

    assert (told[payer]["kind"], told[payee]["kind"]) == ("money_out", "money_in")
    assert body == {
        "wallet_id": str(destination),
        "transaction_id": body["transaction_id"],
        "reference": "TXN-A",
        "type": "transfer",
        "amount": "12.50",
        "currency": "EUR",
        "balance": "12.50",
    }
    assert orjson.loads(told[payer]["body"])["balance"] == "87.50"
    assert told[payer]["at"].isoformat() == "2026-11-28T10:00:00.123456+00:00"
    assert await database.fetchval("SELECT count(*) FROM mail_outbox") == 0


@pytest.mark.usefixtures("notifications")
async def test_an_event_that_comes_again_tells_nobody_again(
    database: Connection, publisher: Publisher, channel: Channel
) -> None:
    wallet_id = await _wallet(database, await _person(database, is_mail_wanted=True))
    again = _event((wallet_id, "1.00", "1.00"))
    await _publish(publisher, again, again)
    await _told(database, 1)
    await _publish(publisher, again, _event((wallet_id, "2.00", "3.00")))
    rows = await _told(database, 2)
    await _drained(channel)

    assert len(rows) == 2
    assert await database.fetchval("SELECT count(*) FROM mail_outbox") == 2


@pytest.mark.usefixtures("notifications")
async def test_a_mail_goes_to_whoever_wishes_it(database: Connection, publisher: Publisher) -> None:
    payer = await _person(database)
    payee = await _person(database, is_mail_wanted=True)
    source, destination = await _wallet(database, payer), await _wallet(database, payee)
    await _publish(publisher, _event((source, "-5.00", "0.00"), (destination, "5.00", "5.00")))
    await _told(database, 2)
    [mail] = await database.fetch("SELECT * FROM mail_outbox")

    assert mail["to_address"] == f"{payee}@example.com"
    assert mail["subject"] == "You received money"
    assert mail["text"].startswith(f"5.00 EUR came into your wallet {destination}: transfer TXN-A")
    assert "secret" not in mail["text"]


@pytest.mark.usefixtures("notifications")
async def test_whoever_has_no_active_account_is_told_of_nothing(
    database: Connection, publisher: Publisher, channel: Channel
) -> None:
    deleted, person = await _person(database), await _person(database)
    await database.execute(
        "UPDATE users SET status = 'DELETED', deleted_at = clock_timestamp() WHERE id = $1", deleted
    )
    strangers = ["shop", None, uuid4(), "not-a-uuid-" + "0" * 36, str(person).upper(), deleted]
    legs = [(await _wallet(database, owner), "1.00", "1.00") for owner in strangers]
    last = await _wallet(database, person)
    await _publish(publisher, _event(*legs), _event((last, "1.00", "1.00")))
    rows = await _told(database, 1)
    await _drained(channel)

    assert [row["user_id"] for row in rows] == [person]


@pytest.mark.usefixtures("notifications")
async def test_an_event_that_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_told(
    database: Connection, publisher: Publisher, channel: Channel
) -> None:
    wallet_id = await _wallet(database, await _person(database))
    await _publish(
        publisher, b"not json", _event((wallet_id, "1.00", "1.00")), b'{"entries": "none"}'
    )
    await _told(database, 1)

    async def look() -> bool:
        return await check_queue(channel, DEAD_LETTERS) == 2

    await eventually(look, what="two dead letters")
    letter = await channel.basic_get(DEAD_LETTERS)
    headers = letter.header.properties.headers or {}
    assert letter.body == b"not json"
    assert headers[REASON_HEADER] == "invalid_message"
    assert headers[QUEUE_HEADER] == NOTIFICATIONS


async def test_several_notifiers_share_the_events(
    broker_url: str, pool: Pool, publisher: Publisher, database: Connection
) -> None:
    await declare_topology(broker_url, partitions=1, events=EventQueues(notify_money=True))
    wallet_id = await _wallet(database, await _person(database))
    one, other = (MoneyNotifications(broker_url, pool=pool, publisher=publisher) for _ in range(2))
    async with running(one), running(other):
        bodies = [_event((wallet_id, "1.00", f"{number}.00")) for number in range(1, 101)]
        await asyncio.gather(*(_publish(publisher, body) for body in bodies))
        rows = await _told(database, 100)

    assert len(rows) == 100


async def test_the_queue_gets_events_only_where_migrate_was_told_to(
    broker_url: str, publisher: Publisher, channel: Channel
) -> None:
    waiting = []
    for notify_money in (False, True, False):
        await declare_topology(
            broker_url, partitions=1, events=EventQueues(notify_money=notify_money)
        )
        for kind in ("completed", "failed"):
            message = Outgoing(
                exchange=EVENTS_EXCHANGE,
                routing_key=f"transaction.{kind}.deposit.EUR",
                body=b"{}",
                type="event",
                is_mandatory=False,
            )
            await publisher.publish(message, timeout_s=5)
        waiting.append(await check_queue(channel, NOTIFICATIONS))

    assert waiting == [0, 1, 1]


def test_several_legs_of_one_wallet_are_one_change() -> None:
    wallet_id, other, even = uuid4(), uuid4(), uuid4()
    body = _event(
        (wallet_id, "-10.00", "90.00"),
        (other, "7.50", "7.50"),
        (wallet_id, "2.50", "92.50"),
        (even, "1.00", "1.00"),
        (even, "-1.00", "0.00"),
    )
    changes = {one.wallet_id: one for one in changes_of(body)}

    assert changes.keys() == {wallet_id, other}
    assert (changes[wallet_id].amount, changes[wallet_id].balance) == (
        Decimal("-7.50"),
        Decimal("92.50"),
    )


def test_a_notification_s_id_follows_from_event_and_wallet() -> None:
    wallet_id, event_id = uuid4(), uuid4()
    ids = {
        changes_of(_event((wallet_id, "1.00", balance), event_id=event_id))[0].id
        for balance in ("1.00", "2.00")
    }
    [other] = changes_of(_event((wallet_id, "1.00", "1.00")))

    assert len(ids) == 1
    assert ids != {other.id}
    assert {one.version for one in ids} == {7}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"event_id": 1}', b"{" * 100_000, b"0" * 2_000_000]
)
def test_what_is_no_event_is_told_by_its_place_and_not_by_its_content(body: bytes) -> None:
    with pytest.raises(UnreadableEventError) as raised:
        changes_of(body)

    assert len(str(raised.value)) < 200
