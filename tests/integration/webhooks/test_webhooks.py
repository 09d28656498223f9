"""Webhooks of a whole system: what is posted reaches who asked for it, signed, at least once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from contracts.scopes import Reach
from tests.conftest import Connection
from tests.end_to_end.traces import Received as TracedSpan
from tests.end_to_end.traces import TraceReceiver
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.integration.webhooks.calls import deliveries_of, make_webhook
from tests.integration.webhooks.receiver import Receiver
from tests.support import deposit, eventually, transfer


async def test_an_event_arrives_signed_and_is_written_down(
    make_client: MakeClient, receiver: Receiver
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    made = await make_webhook(api, f"{receiver.url}/in", event_types=["transaction.completed"])
    refused = await api.submit(transfer(wallet, await api.create_wallet(), "5.00"))
    paid = await api.deposit(wallet, "10.00")

    received = await receiver.next("/in")

    received.verify(made["secret"])
    with pytest.raises(WebhookVerificationError):
        received.verify("whsec_" + "A" * 32)
    assert refused.json["status"] == "FAILED"
    assert received.event["id"] == paid.json["id"]
    assert received.event["event_type"] == "transaction.completed"
    assert received.webhook_id == received.event["event_id"]
    assert received.headers["content-type"] == "application/json"

    async def delivered() -> list[Any]:
        return await deliveries_of(api, made["id"], status="DELIVERED")

    [delivery] = await eventually(delivered, what="it is written down")
    assert delivery["event_id"] == received.event["event_id"]
    assert [one["response_status"] for one in delivery["attempts"]] == [204]
    read = await api.get(f"/v1/webhooks/{made['id']}")
    assert {**read.json, "secret": made["secret"]} == made
    assert [one["id"] for one in (await api.get("/v1/webhooks")).json["items"]] == [made["id"]]


async def test_each_attempt_is_a_span_of_the_transactions_trace(
    make_client: MakeClient, receiver: Receiver, traces: TraceReceiver
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    receiver.statuses["/traced"] = [503]
    made = await make_webhook(api, f"{receiver.url}/traced")
    trace_id, parent_id = uuid4().hex, uuid4().hex[:16]
    await api.call(
        "POST",
        "/v1/transactions",
        json=deposit(wallet, "1.00"),
        headers={
            "Idempotency-Key": uuid4().hex,
            "traceparent": f"00-{trace_id}-{parent_id}-01",
        },
    )
    for _ in range(2):
        await receiver.next("/traced")

    async def both() -> list[TracedSpan]:
        found = [
            one for one in traces.spans if one.attributes.get("ackledger.webhook.id") == made["id"]
        ]
        return found if len(found) == 2 else []

    refused, taken = await eventually(both, what="both attempts are spans")
    [server] = [one for one in traces.spans if one.parent_id == parent_id]
    for one in (refused, taken):
        assert (one.trace_id, one.parent_id) == (trace_id, server.span_id)
        assert (one.span.name, one.service) == ("POST webhook", "ackledger-notifier")
    # Where it goes is a client's text: neither path nor host is said.
    assert refused.attributes == {
        "http.request.method": "POST",
        "ackledger.webhook.id": made["id"],
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert taken.attributes == {
        "http.request.method": "POST",
        "ackledger.webhook.id": made["id"],
        "http.response.status_code": 204,
        "http.request.resend_count": 1,
    }


async def test_what_fails_is_sent_again_under_the_same_id_and_a_slow_one_delays_nobody(
    make_client: MakeClient, receiver: Receiver
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    receiver.statuses["/again"] = [500]
    receiver.hanging.add("/slow")
    slow = await make_webhook(api, f"{receiver.url}/slow")
    again = await make_webhook(api, f"{receiver.url}/again")
    await api.deposit(wallet, "1.00")

    first = await receiver.next("/again")
    second = await receiver.next("/again", within_s=10)

    assert second.webhook_id == first.webhook_id
    assert second.body == first.body
    second.verify(again["secret"])
    [waiting] = await deliveries_of(api, slow["id"])
    assert (waiting["status"], waiting["attempts"]) == ("PENDING", [])


async def test_after_a_rotation_both_secrets_verify(
    make_client: MakeClient, receiver: Receiver
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    made = await make_webhook(api, f"{receiver.url}/in")
    path = f"/v1/webhooks/{made['id']}/secret/rotate"
    rotated = (await api.call("POST", path)).json
    await api.deposit(wallet, "1.00")

    received = await receiver.next("/in")

    received.verify(made["secret"])
    received.verify(rotated["secret"])
    until = datetime.fromisoformat(rotated["previous_valid_until"])
    assert timedelta(hours=23) < until - datetime.now(tz=UTC) < timedelta(hours=25)


async def test_own_webhooks_get_own_events_and_are_seen_by_nobody_else(
    make_client: MakeClient, receiver: Receiver
) -> None:
    us, them = await make_client(reach=Reach.OWN), await make_client(reach=Reach.OWN)
    ours, theirs = await us.create_wallet(), await them.create_wallet()
    made = await make_webhook(us, f"{receiver.url}/ours")
    await them.deposit(theirs, "50.00")
    paid = await them.submit(transfer(theirs, ours, "20.00"))

    received = await receiver.next("/ours")

    assert received.event["id"] == paid.json["id"]
    assert [one["wallet_id"] for one in received.event["wallets"]] == [ours]
    assert received.event["idempotency_key"] is None
    for method, rest, sent in (
        ("GET", "", None),
        ("PATCH", "", {"status": "DISABLED"}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/secret/rotate", None),
        ("POST", "/recover", {"since": "2026-01-01T00:00:00Z"}),
        ("POST", f"/deliveries/{uuid4()}/resend", None),
    ):
        answer = await them.call(method, f"/v1/webhooks/{made['id']}{rest}", json=sent)
        assert (answer.status, answer.code) == (404, "webhook_not_found")
    body: dict[str, Any] = {"url": receiver.url, "event_types": ["*"], "wallet_ids": [ours]}
    refused = await them.call("POST", "/v1/webhooks", json=body)
    assert (refused.status, refused.code) == (404, "wallet_not_found")


async def test_one_that_takes_nothing_for_days_is_disabled_and_recovers(
    make_client: MakeClient, receiver: Receiver, database: Connection
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    made = await make_webhook(api, f"{receiver.url}/days", wallet_ids=[wallet])
    receiver.statuses["/days"] = [503]
    await database.execute(
        "UPDATE webhooks SET failing_since = clock_timestamp() - interval '6 days' WHERE id = $1",
        made["id"],
    )
    began = datetime.now(tz=UTC) - timedelta(minutes=1)
    first = await api.deposit(wallet, "1.00")
    await receiver.next("/days")
    path = f"/v1/webhooks/{made['id']}"

    async def is_disabled() -> bool:
        return str((await api.get(path)).json["status"]) == "DISABLED"

    await eventually(is_disabled, what="it is disabled")
    await api.deposit(wallet, "2.00")

    async def missed() -> list[Any]:
        return await deliveries_of(api, made["id"], status="FAILED")

    [failed] = await eventually(missed, what="the event is kept")
    assert failed["attempts"] == []
    actions = "SELECT action FROM audit_log WHERE subject = $1 ORDER BY id"
    rows = await database.fetch(actions, f"webhook:{made['id']}")
    assert [row["action"] for row in rows] == ["webhook.created", "webhook.disabled"]

    await api.call("PATCH", path, json={"status": "ACTIVE"})
    recovery = await api.call("POST", f"{path}/recover", json={"since": began.isoformat()})
    assert (recovery.status, recovery.json) == (202, {"deliveries": 1})
    received = {(await receiver.next("/days", within_s=10)).event["id"] for _ in range(2)}
    assert first.json["id"] in received
    assert len(received) == 2
    resent = await api.call("POST", f"{path}/deliveries/{failed['id']}/resend")
    assert resent.status == 202
    assert (await receiver.next("/days")).webhook_id == failed["event_id"]


async def test_one_that_answers_410_is_disabled_at_once_and_a_deleted_one_is_gone(
    make_client: MakeClient, receiver: Receiver
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    made = await make_webhook(api, f"{receiver.url}/gone")
    receiver.statuses["/gone"] = [410]
    await api.deposit(wallet, "1.00")
    path = f"/v1/webhooks/{made['id']}"

    async def is_disabled() -> bool:
        return str((await api.get(path)).json["status"]) == "DISABLED"

    await eventually(is_disabled, what="it is disabled")
    assert (await api.call("DELETE", path)).status == 204
    assert (await api.get(path)).status == 404


async def test_what_a_killed_notifier_had_in_hand_is_sent_again(
    make_client: MakeClient, receiver: Receiver, doors: CheckedDoors, database: Connection
) -> None:
    api = await make_client(reach=Reach.OWN)
    wallet = await api.create_wallet()
    receiver.hanging.add("/killed")
    made = await make_webhook(api, f"{receiver.url}/killed")
    await api.deposit(wallet, "1.00")
    first = await receiver.next("/killed")
    doors.system.kill("notifier")
    receiver.release()
    missed = await api.deposit(wallet, "2.00")
    # The leases of what it read and had in hand end; here at once.
    await database.execute("UPDATE webhook_progress SET read_until = '-infinity'")
    await database.execute(
        "UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp() WHERE webhook_id = $1",
        made["id"],
    )
    doors.system.restart("notifier")

    received = [await receiver.next("/killed", within_s=30) for _ in range(2)]

    assert {one.event["id"] for one in received} == {first.event["id"], missed.json["id"]}
    assert first.webhook_id in {one.webhook_id for one in received}
