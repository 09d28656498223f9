"""`ackledger restore --lost`: what the log of events knows, and restored books do not."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from cli.backups.lost import LostList, lost_transactions
from runtime.service.settings import BrokerSettings
from tests.conftest import Connection, Doors
from tests.integration.command_line.calling import Called, ackledger
from tests.integration.command_line.dated_books import DatedBook
from tests.support import deposit, eventually

pytestmark = pytest.mark.long


async def test_what_was_lost_is_listed_until_it_was_sent_again(
    doors: Doors, database: Connection, database_url: str, tmp_path: Path
) -> None:
    moment = datetime.now(tz=UTC).isoformat()
    wallet = await doors.api.create_wallet()
    key = str(uuid4())
    sent = await doors.api.submit(
        {"type": "deposit", "destination_wallet_id": wallet, "amount": "1.00", "currency": "USD"},
        key=key,
    )

    async def lost() -> Called:
        return await ackledger(
            *("restore", "--to", moment, "--lost", "--json"),
            directory=tmp_path / ".local",
            variables={"DATABASE_URL": database_url, "AMQP_URL": doors.amqp_url},
        )

    async def listed() -> Called | None:
        called = await lost()
        return called if called.code == 1 else None

    # The restored books are another database, which has nothing of it.
    called = await eventually(listed, what="the event is in the log", within_s=60)
    (item,) = called.json["items"]
    assert item["idempotency_key"] == key
    assert item["transaction_id"] == sent.json["id"]
    assert item["event_type"] == "transaction.completed"

    book = DatedBook(database)
    legs = [(await book.wallet("USD", kind="external"), -100), (await book.wallet("USD"), 100)]
    again = await book.post(datetime.now(tz=UTC), *legs, type_="deposit")
    await database.execute(
        "UPDATE transactions SET submitter = $2, idempotency_key = $3 WHERE id = $1",
        *(again, item["submitter"], key),
    )
    assert (await lost()).json["items"] == []


async def test_a_list_that_is_full_names_where_the_next_one_begins(
    doors: Doors, database: Connection
) -> None:
    since = datetime.now(tz=UTC)
    wallet = await doors.api.create_wallet()
    keys = [str(uuid4()) for _ in range(3)]
    for key in keys:
        await doors.api.submit(deposit(wallet, "1.00"), key=key)
    broker = BrokerSettings(amqp_url=doors.amqp_url)

    async def lists() -> list[LostList] | None:
        found = [await lost_transactions(broker, database, since, most=1)]
        while found[-1].after is not None:
            after = found[-1].after
            found.append(await lost_transactions(broker, database, since, after=after, most=1))
        return found if sum(len(one.items) for one in found) >= len(keys) else None

    found = await eventually(lists, what="the events are in the log", within_s=60)

    # A message of the log may hold several, and is listed whole.
    assert all(one.items for one in found[:-1])
    assert found[-1].items == []
    assert sorted(one.idempotency_key for page in found for one in page.items) == sorted(keys)
