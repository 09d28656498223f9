"""Operators look at dead letters over HTTP, replay and discard them; nothing happens twice."""

import asyncio
import base64
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.dead_letters import BODY_LISTED_BYTES_MAX, BODY_SHOWN_BYTES_MAX
from runtime.postgres.pool import Connection
from tests.integration.dead_letters.letters import audited, quarantined_deposit, requested, store
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.support import Answer, deposit, eventually

LETTERS = "/v1/dead-letters"
BOTH = pytest.mark.parametrize("act", ["replay", "discard"])


@pytest.fixture
def submitter() -> str:
    """A submitter of this test alone: what its filters find is its own."""
    return f"shop-{uuid4().hex}"


def _request(wallet: str, key: str, amount: str = "1.00") -> bytes:
    return requested({"idempotency_key": key, **deposit(wallet, amount)})


async def _end(api: CheckedApi, dead_letter: UUID, act: str, **params: str) -> Answer:
    return await api.call("POST", f"{LETTERS}/{dead_letter}/{act}", params=params)


async def _many(api: CheckedApi, act: str, **params: str) -> Answer:
    return await api.call("POST", f"{LETTERS}/{act}", params=params)


async def _state(api: CheckedApi, dead_letter: UUID) -> str:
    return str((await api.get(f"{LETTERS}/{dead_letter}")).json["state"])


async def _final(api: CheckedApi, transaction_id: str) -> Any:
    answer = await api.call(
        "GET", f"/v1/transactions/{transaction_id}", headers={"Prefer": "wait=20"}
    )
    return answer.json


# Looking


async def test_those_of_one_transaction_are_listed_by_it(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    transaction_id = uuid4()
    stored = [
        await store(books, b"", submitter=submitter, reason=reason, transaction_id=one)
        for one, reason in (
            (transaction_id, "quarantined"),
            (uuid4(), "quarantined"),
            (transaction_id, "event_not_sent"),
            (None, "quarantined"),
        )
    ]
    about = {"transaction_id": str(transaction_id)}

    first = (await api.get(LETTERS, **about, limit="1")).json
    second = (await api.get(LETTERS, **about, limit="1", cursor=first["next_cursor"])).json
    narrowed = (await api.get(LETTERS, **about, reason="quarantined", state="open")).json

    assert [one["id"] for one in first["items"] + second["items"]] == [
        str(stored[2]),
        str(stored[0]),
    ]
    assert second["next_cursor"] is None
    assert [one["id"] for one in narrowed["items"]] == [str(stored[0])]
    assert (await api.get(LETTERS, **about, state="replayed")).json["items"] == []


async def test_a_poison_message_is_listed_counted_and_shown(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    mark = f"poison-{uuid4().hex}"
    await doors.upstream.publish(mark.encode())

    async def look() -> Any:
        page = await api.get(LETTERS, reason="not_json", submitter="demo", state="open")
        return next((one for one in page.json["items"] if one["body"] == mark), None)

    listed = await eventually(look, what="the dead letter is listed")
    summary = await api.get(f"{LETTERS}/summary", submitter="demo")

    assert (listed["reason"], listed["submitter"], listed["state"]) == ("not_json", "demo", "open")
    assert listed["is_body_whole"] is True
    assert (await api.get(f"{LETTERS}/{listed['id']}")).json == listed
    assert summary.json["by_reason"]["not_json"] >= 1
    assert summary.json["is_complete"] is True


async def test_pages_are_newest_first_and_end(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    ids = [str(await store(books, b"", submitter=submitter)) for _ in range(5)]

    first = await api.get(LETTERS, submitter=submitter, limit="3")
    cursor = first.json["next_cursor"]
    second = await api.get(LETTERS, submitter=submitter, limit="3", cursor=cursor)
    elsewhere = await api.get(LETTERS, submitter="another", limit="3", cursor=cursor)

    assert [one["id"] for one in first.json["items"] + second.json["items"]] == ids[::-1]
    assert second.json["next_cursor"] is None
    assert (elsewhere.status, elsewhere.code) == (400, "invalid_cursor")


async def test_filters_narrow_lists_and_counts_together(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    wanted = await store(books, b"", reason="not_json", submitter=submitter)
    await store(books, b"", reason="unknown_type", submitter=submitter)
    gone = await store(books, b"", reason="not_json", submitter=submitter)
    await _end(api, gone, "discard")

    listed = await api.get(LETTERS, submitter=submitter, reason="not_json", state="open")
    counted = await api.get(f"{LETTERS}/summary", submitter=submitter, state="open")
    discarded = await api.get(f"{LETTERS}/summary", submitter=submitter, state="discarded")

    assert [one["id"] for one in listed.json["items"]] == [str(wanted)]
    assert counted.json["by_reason"] == {"not_json": 1, "unknown_type": 1}
    assert discarded.json["by_reason"] == {"not_json": 1}


async def test_a_huge_binary_body_is_shown_bounded_and_no_byte_of_it_is_changed(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    body = bytes(range(256)) * 45_000
    dead_letter = await store(books, body, reason="message_too_large", submitter=submitter)

    [listed] = (await api.get(LETTERS, submitter=submitter)).json["items"]
    shown = (await api.get(f"{LETTERS}/{dead_letter}")).json
    replayed = await _end(api, dead_letter, "replay")

    for letter, bound in ((listed, BODY_LISTED_BYTES_MAX), (shown, BODY_SHOWN_BYTES_MAX)):
        assert (letter["body_encoding"], letter["body_bytes"]) == ("base64", len(body))
        assert letter["is_body_whole"] is False
        assert base64.b64decode(letter["body"]) == body[:bound]
    assert (replayed.status, replayed.code) == (409, "dead_letter_refused")
    assert f"message_too_large: {len(body)} bytes" in replayed.json["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/replay"), ("POST", "/discard")]
)
async def test_an_unknown_dead_letter_is_not_found(api: CheckedApi, method: str, path: str) -> None:
    unknown = await api.call(method, f"{LETTERS}/{uuid4()}{path}")
    nonsense = await api.call(method, f"{LETTERS}/nonsense{path}")

    assert (unknown.status, unknown.code) == (404, "dead_letter_not_found")
    assert (nonsense.status, nonsense.code) == (400, "invalid_parameter")


# One


async def test_a_replay_posts_under_the_original_key_and_submitter(
    api: CheckedApi, books: Connection, make_client: MakeClient, submitter: str
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    dead_letter = await store(books, _request(wallet, key), submitter=submitter)

    replayed = await _end(api, dead_letter, "replay")

    [transaction_id] = replayed.json["transaction_ids"]
    transaction = await _final(api, transaction_id)
    sent_again = await (await make_client(client=submitter)).submit(
        deposit(wallet, "1.00"), key=key
    )
    assert (replayed.status, replayed.json["outcome"]) == (200, "replayed")
    assert replayed.json["detail"] == "1 recorded"
    assert transaction["status"] == "COMPLETED"
    assert (transaction["idempotency_key"], transaction["submitter"]) == (key, submitter)
    assert transaction["channel"] == "amqp"
    assert sent_again.json["id"] == transaction_id
    assert await _state(api, dead_letter) == "replayed"
    assert await api.balance(wallet) == "1.00"


async def test_a_replay_of_a_key_that_was_completed_long_ago_changes_nothing_and_says_so(
    api: CheckedApi, books: Connection
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    first = await api.submit(deposit(wallet, "1.00"), key=key)
    before = (await api.get(f"/v1/transactions/{first.json['id']}")).json
    dead_letter = await store(books, _request(wallet, key), submitter="demo")

    replayed = await _end(api, dead_letter, "replay")
    # A later transaction of the same wallet is posted: whatever the replay sent is behind us.
    await api.deposit(wallet, "2.00")

    assert (replayed.status, replayed.json["outcome"]) == (200, "replayed")
    assert replayed.json["detail"] == "1 ended before: nothing was changed"
    assert replayed.json["transaction_ids"] == [before["id"]]
    assert (await api.get(f"/v1/transactions/{before['id']}")).json == before
    assert await api.balance(wallet) == "3.00"


async def test_a_released_transaction_is_posted(api: CheckedApi, books: Connection) -> None:
    wallet = await api.create_wallet()
    await api.deposit(wallet, "1.00")
    dead_letter, transaction_id = await quarantined_deposit(books, wallet)

    replayed = await _end(api, dead_letter, "replay")

    assert (replayed.status, replayed.json["detail"]) == (200, "posted again")
    assert (await _final(api, transaction_id))["status"] == "COMPLETED"
    assert await api.balance(wallet) == "2.00"


async def test_discarding_fails_a_quarantined_transaction(
    api: CheckedApi, books: Connection
) -> None:
    wallet = await api.create_wallet()
    await api.deposit(wallet, "1.00")
    dead_letter, transaction_id = await quarantined_deposit(books, wallet)

    discarded = await _end(api, dead_letter, "discard")

    transaction = await _final(api, transaction_id)
    assert (discarded.status, discarded.json["outcome"]) == (200, "discarded")
    assert discarded.json["transaction_ids"] == [transaction_id]
    assert (transaction["status"], transaction["failure"]["code"]) == ("FAILED", "discarded")
    assert await _state(api, dead_letter) == "discarded"
    assert await api.balance(wallet) == "1.00"


@BOTH
async def test_what_was_ended_before_is_a_conflict(
    api: CheckedApi, books: Connection, act: str
) -> None:
    dead_letter = await store(books, b"not json")
    await _end(api, dead_letter, "discard")

    again = await _end(api, dead_letter, act)

    assert (again.status, again.code) == (409, "dead_letter_ended")
    assert "discarded" in again.json["detail"]


async def test_what_is_still_poison_is_refused_and_stays_open(
    api: CheckedApi, books: Connection
) -> None:
    dead_letter = await store(books, b"not json")

    refused = await _end(api, dead_letter, "replay")

    assert (refused.status, refused.code) == (409, "dead_letter_refused")
    assert "not_json" in refused.json["detail"]
    assert await _state(api, dead_letter) == "open"
    assert await audited(books, dead_letter) == [("demo", "dead_letter.replay_refused")]


async def test_two_operators_at_once_act_once(
    api: CheckedApi, books: Connection, make_client: MakeClient, submitter: str
) -> None:
    wallet = await api.create_wallet()
    dead_letter = await store(books, _request(wallet, uuid4().hex), submitter=submitter)
    operators = [await make_client() for _ in range(4)]

    answers = await asyncio.gather(*(_end(one, dead_letter, "replay") for one in operators))

    [done] = [answer for answer in answers if answer.status == 200]
    [transaction_id] = done.json["transaction_ids"]
    await _final(api, transaction_id)
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    assert {one.code for one in answers if one is not done} == {"dead_letter_ended"}
    assert len(await audited(books, dead_letter)) == 1
    assert await api.balance(wallet) == "1.00"


async def test_the_audit_log_names_the_client_and_the_request(
    books: Connection, make_client: MakeClient
) -> None:
    client = f"operator-{uuid4().hex}"
    dead_letter = await store(books, b"not json")

    answer = await _end(await make_client(client=client), dead_letter, "discard")

    row = await books.fetchrow(
        "SELECT address, request_id FROM audit_log WHERE subject = $1", f"dead_letter:{dead_letter}"
    )
    assert await audited(books, dead_letter) == [(client, "dead_letter.discarded")]
    assert row is not None
    assert tuple(row) == ("127.0.0.1", answer.headers["X-Request-Id"])


@BOTH
async def test_a_dry_run_tells_and_changes_nothing(
    api: CheckedApi, books: Connection, submitter: str, act: str
) -> None:
    wallet, key = await api.create_wallet(), uuid4().hex
    dead_letter = await store(books, _request(wallet, key), submitter=submitter)

    one = await _end(api, dead_letter, act, dry_run="true")
    many = await _many(api, act, submitter=submitter, dry_run="true")

    assert one.status == 200
    assert one.json["outcome"] == f"{act}ed".replace("ee", "e")
    assert many.json["dry_run"] is True
    assert [item["outcome"] for item in many.json["items"]] == [one.json["outcome"]]
    assert await _state(api, dead_letter) == "open"
    assert await audited(books, dead_letter) == []
    recorded = "SELECT count(*) FROM transactions WHERE submitter = $1"
    assert await books.fetchval(recorded, submitter) == 0


# Many


async def test_many_are_replayed_in_bounded_calls_past_what_is_refused(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    wallet = await api.create_wallet()
    bodies = [b"not json", *(_request(wallet, f"key-{number}") for number in range(4))]
    ids = [str(await store(books, body, submitter=submitter)) for body in bodies]
    other = await store(books, _request(wallet, "key-0"), submitter=f"{submitter}-other")

    first = await _many(api, "replay", submitter=submitter, limit="3")
    cursor = first.json["next_cursor"]
    second = await _many(api, "replay", submitter=submitter, limit="3", cursor=cursor)

    items = first.json["items"] + second.json["items"]
    for item in items[1:]:
        assert (await _final(api, item["transaction_ids"][0]))["status"] == "COMPLETED"
    assert first.json["counts"] == {"refused": 1, "replayed": 2}
    assert second.json["counts"] == {"replayed": 2}
    assert [item["id"] for item in items] == ids
    assert second.json["next_cursor"] is None
    assert await api.balance(wallet) == "4.00"
    assert await _state(api, other) == "open"


async def test_a_call_for_many_that_is_repeated_finds_nothing_left(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    ids = [await store(books, b"", reason="unknown_type", submitter=submitter) for _ in range(3)]
    spared = await store(books, b"", reason="not_json", submitter=submitter)
    meant = {"submitter": submitter, "reason": "unknown_type"}

    first = await _many(api, "discard", **meant)
    again = await _many(api, "discard", **meant)

    assert [item["id"] for item in first.json["items"]] == [str(one) for one in ids]
    assert first.json["counts"] == {"discarded": 3}
    assert again.json == {"dry_run": False, "counts": {}, "items": [], "next_cursor": None}
    assert await _state(api, spared) == "open"


async def test_a_call_that_names_very_many_transactions_leaves_the_rest_to_the_next(
    api: CheckedApi, books: Connection, wallet: str, submitter: str
) -> None:
    full = [{"idempotency_key": str(number), **deposit(wallet, "1.00")} for number in range(1000)]
    ids = [str(await store(books, requested(*full), submitter=submitter)) for _ in range(11)]
    meant = {"submitter": submitter, "dry_run": "true"}

    first = await _many(api, "replay", **meant)
    second = await _many(api, "replay", cursor=first.json["next_cursor"], **meant)

    assert [item["id"] for item in first.json["items"]] == ids[:10]
    assert [item["id"] for item in second.json["items"]] == ids[10:]
    assert second.json["next_cursor"] is None


async def test_all_are_meant_only_when_that_is_said(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    dead_letter = str(await store(books, b"not json", submitter=submitter))

    asked = [
        await _many(api, "discard"),
        await _many(api, "discard", all="false"),
        await _many(api, "discard", all="true", submitter=submitter),
        await _many(api, "discard", all="yes"),
        await _many(api, "discard", submitter=submitter, limit="1001"),
        await _many(api, "discard", submitter=submitter, dry_run="1"),
    ]
    every = await _many(api, "discard", all="true", dry_run="true", limit="1000")

    assert {(one.status, one.code) for one in asked} == {(400, "invalid_parameter")}
    assert dead_letter in [item["id"] for item in every.json["items"]]
    assert await _state(api, UUID(dead_letter)) == "open"


@BOTH
async def test_a_dry_run_that_is_asked_for_in_a_body_is_refused_and_does_nothing(
    api: CheckedApi, books: Connection, submitter: str, act: str
) -> None:
    dead_letter = await store(books, b"not json", submitter=submitter)
    body = {"dry_run": True}

    one = await api.call("POST", f"{LETTERS}/{dead_letter}/{act}", json=body)
    many = await api.call("POST", f"{LETTERS}/{act}", json=body, params={"submitter": submitter})

    assert {(answer.status, answer.code) for answer in (one, many)} == {(400, "invalid_parameter")}
    assert await _state(api, dead_letter) == "open"
    assert await audited(books, dead_letter) == []


# Groups


async def test_those_that_say_the_same_about_other_values_are_one_group(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    details = [
        f"the key 'order-{number}' of {uuid4()} stands for other content" for number in range(3)
    ]
    for detail in (*details, "/amount: 'x' is not a decimal"):
        await store(books, b"", submitter=submitter, detail=detail)
    await store(books, b"", reason="not_json", submitter=submitter, detail=details[0])
    ended = await store(books, b"", submitter=submitter, detail=details[0])
    await _end(api, ended, "discard")
    # One that an older release stored.
    await books.execute(
        "UPDATE dead_letters SET fingerprint = NULL WHERE submitter = $1 AND detail = $2",
        submitter,
        details[1],
    )

    groups = await api.get(f"{LETTERS}/groups", submitter=submitter, state="open")

    found = [(one["reason"], one["dead_letters"], one["detail"]) for one in groups.json["items"]]
    assert found[0] == ("delivery_limit", 3, max(details))
    assert sorted(found[1:]) == [
        ("delivery_limit", 1, "/amount: 'x' is not a decimal"),
        ("not_json", 1, details[0]),
    ]
    assert [sum(one["by_hour"]) for one in groups.json["items"]] == [3, 1, 1]
    assert groups.json["items"][0]["by_hour"][-1] + groups.json["items"][0]["by_hour"][-2] == 3
    assert groups.json["is_complete"] is True


async def test_a_group_is_ended_alone_and_only_as_far_as_it_was_looked_at(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    [first, second, spared] = [
        str(await store(books, b"", submitter=submitter, detail=detail))
        for detail in ("line 1", "line 22", "another")
    ]
    seen = (await api.get(f"{LETTERS}/{second}")).json
    later = str(await store(books, b"", submitter=submitter, detail="line 333"))
    meant = {"fingerprint": seen["fingerprint"], "submitter": submitter}

    listed = await api.get(LETTERS, **meant)
    ended = await _many(api, "discard", until=seen["first_seen_at"], **meant)

    assert [one["id"] for one in listed.json["items"]] == [later, second, first]
    assert [one["id"] for one in ended.json["items"]] == [first, second]
    assert [await _state(api, UUID(one)) for one in (spared, later)] == ["open", "open"]


async def test_why_one_was_discarded_is_in_the_audit_log(
    api: CheckedApi, books: Connection, submitter: str
) -> None:
    ids = [await store(books, b"", submitter=submitter) for _ in range(2)]

    await _end(api, ids[0], "discard", note="sent again, corrected")
    await _many(api, "discard", submitter=submitter, note="sent again, corrected")
    long = await _many(api, "discard", submitter=submitter, note="x" * 501)

    rows = await books.fetch(
        "SELECT detail->>'note' AS note FROM audit_log WHERE subject = ANY ($1)",
        [f"dead_letter:{one}" for one in ids],
    )
    assert [row["note"] for row in rows] == ["sent again, corrected"] * 2
    assert (long.status, long.code) == (400, "invalid_parameter")
