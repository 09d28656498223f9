"""Whoever takes all events in bundles gets what the others get, and needs a right for it."""

from typing import Any, Final
from uuid import uuid4

import aio_pika
import aiormq
import orjson
import pytest

from cli.clients.management import Management
from contracts.broker_permissions import Permissions
from contracts.topology import EVENT_BUNDLES, EVENTS_EXCHANGE
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import Listener, listening
from tests.support import Upstream, deposit, requested, transfer, withdrawal

_TYPES: Final = {
    "transaction.completed", "transaction.failed", "transaction.reversed",
    "transaction.hold_expired",
}  # fmt: skip


async def _submit_of_each_kind(api: CheckedApi, upstream: Upstream) -> str:
    """Submit over both doors what ends in all ways; return the last one's id."""
    alice, bob = await api.create_wallet(), await api.create_wallet()
    yen = await api.create_wallet("JPY")
    await api.submit(deposit(alice, "100.00"))
    hold: dict[str, Any] = {
        "type": "hold", "source_wallet_id": alice, "amount": "5.00", "currency": "USD",
    }  # fmt: skip
    held, released = [(await api.submit(hold)).json["id"] for _ in range(2)]
    await api.submit({**hold, "expires_in_s": 1})
    await api.submit({"type": "capture", "hold_id": held, "destination_wallet_id": bob})
    await api.submit({"type": "release", "hold_id": released})
    await api.submit(withdrawal(bob, "1000.00"))
    given = (await api.submit(deposit(yen, "7", "JPY"))).json["id"]
    await api.submit({"type": "reversal", "reverses": given})
    await upstream.publish(requested(transfer(alice, bob, "1.00")), routing_key=alice)
    items = [
        {**transfer(alice, bob, "0.01" if n % 3 else "500.00"), "idempotency_key": uuid4().hex}
        for n in range(200)
    ]
    await api.call("POST", "/v1/transactions/batch", json={"transactions": items})
    return str((await api.deposit(alice, "1.00")).json["id"])


async def _singles(listener: Listener, last: str) -> list[bytes]:
    """Return the bodies of single events up to the last transaction's, all types among them."""
    bodies: list[bytes] = []
    while not _is_whole(bodies, last):
        bodies.append((await listener.next()).body)
    return bodies


def _is_whole(bodies: list[bytes], last: str) -> bool:
    events = [orjson.loads(body) for body in bodies]
    types = {event["event_type"] for event in events}
    return types >= _TYPES and any(event["id"] == last for event in events)


async def test_bundles_have_the_events_of_all_types_that_single_messages_have_in_the_same_order(
    api: CheckedApi, upstream: Upstream, doors: CheckedDoors
) -> None:
    async with (
        listening(doors.amqp_url, exchange=EVENTS_EXCHANGE) as singles,
        listening(doors.amqp_url, exchange=EVENT_BUNDLES) as bundles,
    ):
        last = await _submit_of_each_kind(api, upstream)
        expected = await _singles(singles, last)
        found: list[bytes] = []
        count = 0
        while len(found) < len(expected):
            found += (await bundles.next()).body.split(b"\n")
            count += 1

    assert found == expected
    assert count < len(expected)


@pytest.mark.parametrize(
    ("readable", "is_allowed"),
    [(r"ackledger\.events\.bundles", True), (r"ackledger\.events", False)],
)
async def test_only_who_may_read_the_exchange_of_bundles_binds_to_it(
    doors: CheckedDoors, readable: str, *, is_allowed: bool
) -> None:
    name = f"u{uuid4().hex[:8]}"
    own = rf"{name}\..*"
    management = Management(doors.stack.rabbitmq.management_url or "")
    management.put_user(name, password="secret")
    permissions = Permissions(f"^{own}$", f"^{own}$", f"^({own}|{readable})$")
    management.put_permissions(name, vhost=doors.vhost, permissions=permissions)
    host = doors.amqp_url.rpartition("@")[2]
    connection = await aio_pika.connect(f"amqp://{name}:secret@{host}")
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"{name}.events", auto_delete=True)
        if is_allowed:
            await queue.bind(EVENT_BUNDLES)
            await queue.delete(if_empty=False)
        else:
            with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
                await queue.bind(EVENT_BUNDLES)
    management.call("DELETE", f"/api/users/{name}")


async def test_an_upstream_system_publishes_no_bundles(doors: CheckedDoors) -> None:
    channel = await doors.upstream.channel()
    exchange = await channel.get_exchange(EVENT_BUNDLES, ensure=False)
    with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
        await exchange.publish(aio_pika.Message(b"{}"), routing_key="")
