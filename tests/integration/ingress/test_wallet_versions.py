"""Versions of a wallet: ETag, If-None-Match and If-Match."""

import asyncio
import re
from collections import Counter
from uuid import uuid4

import pytest

from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.ingress.wire import wire_to
from tests.support import Answer

_TAG = re.compile(r'"[0-9]+-[0-9a-f]{32}"')


async def _tag(api: CheckedApi, wallet: str) -> str:
    return (await api.get(f"/v1/wallets/{wallet}")).headers["ETag"]


async def _get(api: CheckedApi, wallet: str, if_none_match: str) -> Answer:
    headers = {"If-None-Match": if_none_match}
    return await api.call("GET", f"/v1/wallets/{wallet}", headers=headers)


async def _change(api: CheckedApi, wallet: str, if_match: str, **fields: object) -> Answer:
    return await api.call(
        "PATCH", f"/v1/wallets/{wallet}", json=fields, headers={"If-Match": if_match}
    )


async def test_every_answer_with_a_wallet_carries_the_same_tag(api: CheckedApi) -> None:
    body, headers = {"currency": "USD"}, {"Idempotency-Key": uuid4().hex}
    created = await api.call("POST", "/v1/wallets", json=body, headers=headers)
    again = await api.call("POST", "/v1/wallets", json=body, headers=headers)
    wallet = created.json["id"]
    read = await api.get(f"/v1/wallets/{wallet}")
    changed = await api.call("PATCH", f"/v1/wallets/{wallet}", json={"metadata": {"a": 1}})

    tag = created.headers["ETag"]
    assert _TAG.fullmatch(tag), tag
    assert [again.headers["ETag"], read.headers["ETag"]] == [tag, tag]
    assert changed.headers["ETag"] == await _tag(api, wallet) != tag


async def test_any_change_of_what_is_shown_changes_the_tag(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    wallet = await api.create_wallet(overdraft_limit="5.00")
    path = f"/v1/wallets/{wallet}"
    first = await _tag(api, wallet)
    await api.deposit(wallet, "1.00")
    tags = [first, await _tag(api, wallet)]
    for fields in (
        {"metadata": {"a": 1}},
        {"overdraft_limit": "6.00"},
        {"status": "FROZEN"},
        {"status": "ACTIVE"},
        {"overdraft_limit": "5.00", "metadata": {}},
    ):
        changed = await api.call("PATCH", path, json=fields)
        tags.append(changed.headers["ETag"])
    connection = await connect(doors.database_url, name="test")
    await connection.execute("UPDATE wallets SET held = 100 WHERE id = $1", wallet)
    await connection.close()
    tags.append(await _tag(api, wallet))

    assert len(set(tags)) == len(tags)
    assert [tag.partition("-")[0] for tag in tags] == ['"0'] + ['"1'] * (len(tags) - 1)


async def test_whoever_holds_the_current_version_is_answered_without_a_body(
    api: CheckedApi,
) -> None:
    wallet = await api.create_wallet()
    tag = await _tag(api, wallet)
    for known in (tag, f"W/{tag}", "*", f'"other", {tag}', f'"other",W/{tag} ,'):
        answer = await _get(api, wallet, known)
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", tag), known
        assert "Content-Type" not in answer.headers
        assert answer.headers["X-Request-Id"]
    for unknown in ('"other"', f'"{tag[1:-2]}"'):
        answer = await _get(api, wallet, unknown)
        assert (answer.status, answer.json["id"]) == (200, wallet), unknown

    await api.deposit(wallet, "1.00")
    assert (await _get(api, wallet, tag)).status == 200


async def test_answers_without_a_body_leave_the_connection_in_step(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    wallet = await api.create_wallet()
    tag = await _tag(api, wallet)

    def request(method: str, *lines: str) -> bytes:
        bearer = f"Authorization: Bearer {doors.system.api_key}"
        head = (f"{method} /v1/wallets/{wallet} HTTP/1.1", "Host: test", bearer, *lines)
        return "\r\n".join((*head, "", "")).encode()

    async with wire_to(doors) as wire:
        current = await wire.ask(request("GET", f"If-None-Match: {tag}"))
        deleted = await wire.ask(request("DELETE", f"If-Match: {tag}"))
        read = await wire.ask(request("GET", f"If-None-Match: {tag}"))

    assert current.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert deleted.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert read.startswith(b"HTTP/1.1 200 OK\r\n")
    for answer in (current, deleted):
        assert b"Content-Length" not in answer
        assert b"Transfer-Encoding" not in answer


async def test_a_wallet_that_is_not_there_has_no_version(api: CheckedApi) -> None:
    read = await _get(api, str(uuid4()), "*")
    changed = await _change(api, str(uuid4()), "*", status="FROZEN")

    assert [(one.status, one.code) for one in (read, changed)] == [(404, "wallet_not_found")] * 2


async def test_a_change_rests_on_the_version_that_it_names(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    tag = await _tag(api, wallet)
    await api.deposit(wallet, "1.00")
    stale = await _change(api, wallet, tag, status="FROZEN")
    weak = await _change(api, wallet, f"W/{await _tag(api, wallet)}", status="FROZEN")
    unchanged = (await api.get(f"/v1/wallets/{wallet}")).json["status"]
    current = await _change(api, wallet, f"{tag}, {await _tag(api, wallet)}", status="FROZEN")
    any_version = await _change(api, wallet, "*", status="ACTIVE")
    chained = await _change(api, wallet, any_version.headers["ETag"], metadata={"a": 1})

    assert [(one.status, one.code) for one in (stale, weak)] == [(412, "precondition_failed")] * 2
    assert unchanged == "ACTIVE"
    assert [one.status for one in (current, any_version, chained)] == [200, 200, 200]


async def test_of_many_that_change_the_same_version_one_succeeds(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    tag = await _tag(api, wallet)
    answers = await asyncio.gather(
        *(_change(api, wallet, tag, metadata={"n": number}) for number in range(20))
    )
    [winner] = [one for one in answers if one.status == 200]

    assert Counter(one.status for one in answers) == {200: 1, 412: 19}
    assert (await api.get(f"/v1/wallets/{wallet}")).json == winner.json


async def test_no_payment_comes_between_the_check_and_the_change(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    tag = await _tag(api, wallet)
    changed, paid = await asyncio.gather(
        _change(api, wallet, tag, status="FROZEN"), api.deposit(wallet, "1.00")
    )

    if changed.status == 200:
        assert paid.json["failure"]["code"] == "wallet_frozen"
    else:
        assert (changed.code, paid.json["status"]) == ("precondition_failed", "COMPLETED")


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("text", ["", "18-5d41", '"18', '*, "a"', "W/"])
async def test_a_condition_that_cannot_be_read_is_refused_and_nothing_is_changed(
    api: CheckedApi, wallet: str, name: str, text: str
) -> None:
    tag = await _tag(api, wallet)
    method = "PATCH" if name == "If-Match" else "GET"
    body = {"metadata": {"a": 1}} if method == "PATCH" else None
    answer = await api.call(method, f"/v1/wallets/{wallet}", json=body, headers={name: text})

    assert (answer.status, answer.code) == (400, "invalid_parameter")
    assert name in answer.json["detail"]
    assert await _tag(api, wallet) == tag
