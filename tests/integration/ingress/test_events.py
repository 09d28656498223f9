"""Following events: from now on, after any event that is kept, and only what is one's own."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest

from cli.api_keys import list_api_keys, revoke_api_key
from cli.wallet_grants import grant_wallet
from contracts.scopes import Reach
from contracts.topology import EVENTS_LOG, EventQueues
from runtime.amqp.topology import declare_topology
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient, open_doors
from tests.integration.ingress.sse import following
from tests.support import deposit, eventually, transfer
from tools.stack import Stack


@pytest.fixture
async def own_doors(stack: Stack, template: str, tmp_path: Path) -> AsyncIterator[CheckedDoors]:
    """A system that may be broken, with a quick heartbeat."""
    settings = {"ACKLEDGER_EVENTS_HEARTBEAT_S": "1", "ACKLEDGER_EVENTS_READERS_MAX": "2"}
    async with open_doors(stack, template, tmp_path, settings=settings) as opened:
        yield opened


async def test_an_event_comes_once_its_transaction_can_be_read(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    async with following(api, f"?wallet_id={wallet}") as stream:
        accepted = await api.submit(deposit(wallet, "10.00"), wait=None)
        sent = await stream.next_event()
        read = await api.get(f"/v1/transactions/{accepted.json['id']}")

    assert sent.type == "transaction.completed"
    assert sent.data["event_type"] == sent.type
    assert {name: sent.data[name] for name in read.json} == read.json
    assert [one["balance"] for one in sent.data["wallets"]] == ["10.00"]


async def test_what_was_missed_comes_in_order_after_the_last_event_that_was_seen(
    api: CheckedApi,
) -> None:
    wallet = await api.create_wallet()
    async with following(api, f"?wallet_id={wallet}") as stream:
        await api.deposit(wallet, "1.00")
        seen = await stream.next_event()
    missed = [(await api.deposit(wallet, f"{number}.00")).json["id"] for number in (2, 3, 4)]

    async with following(api, f"?wallet_id={wallet}", last_event_id=seen.id) as stream:
        found = [(await stream.next_event()).data["id"] for _ in missed]
        later = await api.deposit(wallet, "5.00")
        found.append((await stream.next_event()).data["id"])

    assert found == [*missed, later.json["id"]]


@pytest.mark.parametrize("unknown", ["999999999-00000000", "0-00000000", "of-nobody", "x" * 200])
async def test_an_id_that_is_not_kept_gives_a_reset_first(api: CheckedApi, unknown: str) -> None:
    wallet = await api.create_wallet()
    async with following(api, f"?wallet_id={wallet}", last_event_id=unknown) as stream:
        assert (await stream.next_event()).type == "reset"
        await api.deposit(wallet, "1.00")
        assert (await stream.next_event()).type == "transaction.completed"


async def test_filters_let_through_what_they_name(api: CheckedApi) -> None:
    wallet, other = await api.create_wallet(), await api.create_wallet()
    key = uuid4().hex
    query = f"?wallet_id={wallet}&type=transaction.failed"
    async with following(api, query) as failures:
        await api.deposit(other, "1.00")
        await api.deposit(wallet, "1.00")
        refused = await api.submit(transfer(wallet, other, "5.00"), key=key)
        sent = await failures.next_event()
        assert sent.data["id"] == refused.json["id"]
        assert sent.data["failure"]["code"] == "insufficient_funds"

    bad = await api.get("/v1/events", type="transaction.nothing")
    assert (bad.status, bad.code) == (400, "invalid_parameter")


async def _pages(api: CheckedApi, path: str) -> list[Any]:
    """Read page after page: one may end at its time before it has come to the log's end."""
    pages, cursor = [], ""
    while True:
        answer = await api.call("GET", f"{path}{cursor}", headers={"Accept": "application/json"})
        pages.append(answer.json)
        if answer.json["next_cursor"] is None:
            return pages
        cursor = f"&after={answer.json['next_cursor']}"


def _ids(pages: Sequence[Any]) -> list[str]:
    return [item["id"] for page in pages for item in page["items"]]


async def test_pages_give_the_same_events_and_go_on_where_they_ended(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    ids = [(await api.deposit(wallet, f"{number}.00")).json["id"] for number in range(1, 6)]
    path = f"/v1/events?wallet_id={wallet}"

    async def all_kept() -> list[str] | None:
        """Events come when they come."""
        found = _ids(await _pages(api, f"{path}&limit=2"))
        return found if len(found) == len(ids) else None

    assert await eventually(all_kept, what="all events") == ids
    *_, last = pages = await _pages(api, path)
    assert not any(page["reset"] for page in pages)
    after = f"{path}&after={last['last_id']}"
    assert _ids(await _pages(api, after)) == []
    later = await api.deposit(wallet, "6.00")

    async def next_event() -> list[str]:
        return _ids(await _pages(api, after))

    assert await eventually(next_event, what="the next event") == [later.json["id"]]
    reset = await api.call(
        "GET", f"{path}&after=7-1234abcd", headers={"Accept": "application/json"}
    )
    assert reset.json["reset"] is True
    assert _ids(await _pages(api, path)) == [*ids, later.json["id"]]


async def test_own_readers_get_what_is_theirs_and_no_balance_of_others(
    make_client: MakeClient, doors: CheckedDoors
) -> None:
    name = f"us-{uuid4().hex}"
    us = await make_client(name, reach=Reach.OWN)
    them = await make_client(reach=Reach.OWN)
    ours, theirs, granted = (
        await us.create_wallet(),
        await them.create_wallet(),
        await them.create_wallet(),
    )
    connection = await connect(doors.database_url, name="test")
    await grant_wallet(connection, UUID(granted), client=name, actor="test")
    await connection.close()

    refused = await us.get("/v1/events", wallet_id=theirs)
    assert (refused.status, refused.code) == (404, "wallet_not_found")
    async with following(us) as stream:
        await them.deposit(theirs, "100.00")
        paid = await them.submit(transfer(theirs, ours, "30.00"))
        await them.deposit(granted, "7.00")
        first, second = await stream.next_event(), await stream.next_event()

    assert first.data["id"] == paid.json["id"]
    assert first.data["idempotency_key"] is None
    assert [one["wallet_id"] for one in first.data["entries"]] == [ours]
    assert [one["wallet_id"] for one in first.data["wallets"]] == [ours]
    assert [one["wallet_id"] for one in second.data["wallets"]] == [granted]
    hidden = await us.get("/v1/events", transaction_id=str(uuid4()))
    assert (hidden.status, hidden.code) == (404, "transaction_not_found")


async def test_a_revoked_key_ends_what_follows_under_it_whatever_happens_meanwhile(
    make_client: MakeClient, doors: CheckedDoors
) -> None:
    name = f"c-{uuid4().hex}"
    client = await make_client(name)
    wallet = await client.create_wallet()
    connection = await connect(doors.database_url, name="test")
    try:
        async with following(client) as idle, following(doors.api, f"?wallet_id={wallet}") as other:
            (key,) = await list_api_keys(connection, client=name, with_revoked=False)
            await revoke_api_key(connection, str(key.id), actor="test")
            # Long before the heartbeat.
            assert await idle.ended(within_s=5)
            await doors.api.deposit(wallet, "2.00")
            assert (await other.next_event()).data["wallets"][0]["balance"] == "2.00"
    finally:
        await connection.close()


async def test_whoever_reaches_less_does_not_go_on_with_everybody_s_events(
    make_client: MakeClient, doors: CheckedDoors
) -> None:
    name = f"c-{uuid4().hex}"
    client = await make_client(name)
    connection = await connect(doors.database_url, name="test")
    try:
        async with following(client) as stream:
            await connection.execute("UPDATE api_keys SET reach = 'own' WHERE client = $1", name)
            assert await stream.ended(within_s=5)
        # Its own it may still follow.
        async with following(client) as stream:
            paid = await client.deposit(await client.create_wallet(), "1.00")
            assert (await stream.next_event()).data["id"] == paid.json["id"]
    finally:
        await connection.close()


async def test_events_go_on_after_restarts_of_ours_and_a_log_made_anew_is_told(
    own_doors: CheckedDoors,
) -> None:
    api = own_doors.api
    wallet = await api.create_wallet()
    async with following(api) as stream:
        assert (await stream.next(within_s=5)).fields["retry"] == "1000"
        await api.deposit(wallet, "1.00")
        seen = await stream.next_event()
        assert (await stream.next(within_s=5)).is_comment
        async with following(api):
            assert await _refusal(api) == (503, "events_unavailable")
        own_doors.system.halt("ingress")
        assert await stream.ended(within_s=5)
    own_doors.system.restart("ingress")
    missed = await api.deposit(wallet, "2.00")
    async with following(api, last_event_id=seen.id) as stream:
        assert (await stream.next_event()).data["id"] == missed.json["id"]
        await _make_log_anew(own_doors.amqp_url)
        assert (await stream.next_event(within_s=30)).type == "reset"
        later = await api.deposit(wallet, "3.00")
        assert (await stream.next_event(within_s=30)).data["id"] == later.json["id"]


async def _refusal(api: CheckedApi) -> tuple[int, str]:
    """What who follows is told where as many follow as may."""
    answer = await api.get("/v1/events")
    assert answer.headers["Retry-After"]
    return answer.status, answer.code


async def _make_log_anew(amqp_url: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        await channel.queue_delete(EVENTS_LOG)
    await declare_topology(amqp_url, partitions=1, events=EventQueues(is_log_kept=True))
