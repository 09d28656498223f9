"""Headers that stand twice, in other letters, or before a client that is gone; on both paths."""

import asyncio
import re
from typing import Final
from uuid import uuid4

import orjson
import pytest

from tests.integration.ingress.document import CheckedApi, check_problem
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.ingress.test_http_paths import AIOHTTP, FAST
from tests.integration.ingress.wire import wire_to
from tests.support import Answer, Api, deposit, eventually

_PATHS: Final = pytest.mark.parametrize("via", [FAST, AIOHTTP], ids=["fast", "aiohttp"])
_COUNTED: Final = re.compile(
    r'^ackledger_ingress_requests_total\{operation="(\w+)",status="(\d+)"\} (\S+)$', re.MULTILINE
)


def _head(doors: CheckedDoors, path: str, length: int, *lines: str) -> bytes:
    usual = [
        f"POST {path} HTTP/1.1",
        "Host: bank",
        f"Authorization: Bearer {doors.system.api_key}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    # A line that is given again in other letters takes the place of the usual one.
    given = {line.partition(":")[0].lower() for line in lines if line.startswith("~")}
    kept = [line for line in usual if f"~{line.partition(':')[0].lower()}" not in given]
    return "\r\n".join([*kept, *(line.removeprefix("~") for line in lines), "\r\n"]).encode()


async def _post(
    doors: CheckedDoors, body: object, *lines: str, via: str = "", path: str = "/v1/transactions"
) -> Answer:
    content = orjson.dumps(body)
    head = _head(doors, path, len(content), *lines, *via.splitlines())
    async with wire_to(doors) as wire:
        answer = await wire.ask(head + content)
    start, _, rest = answer.partition(b"\r\n\r\n")
    first, *others = start.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in others)
    return Answer(int(first.split(" ")[1]), headers, rest)


@_PATHS
async def test_two_different_keys_in_one_request_are_refused(
    doors: CheckedDoors, wallet: str, via: str
) -> None:
    one, two = uuid4().hex, uuid4().hex
    lines = (f"Idempotency-Key: {one}", f"idempotency-key: {two}")
    both = await _post(doors, deposit(wallet, "1.00"), *lines, via=via)
    again = await _post(doors, deposit(wallet, "1.00"), lines[1], via=via)
    made = await _post(doors, {"currency": "USD"}, *lines, via=via, path="/v1/wallets")

    for refused, path in ((both, "/v1/transactions"), (made, "/v1/wallets")):
        check_problem(refused, path)
        assert (refused.status, refused.code) == (400, "idempotency_key_invalid")
    assert again.status == 202
    assert "Idempotency-Replayed" not in again.headers


@_PATHS
async def test_one_key_that_stands_twice_is_that_key(
    doors: CheckedDoors, wallet: str, via: str
) -> None:
    key = f"Idempotency-Key: {uuid4().hex}"
    first = await _post(doors, deposit(wallet, "1.00"), key, key, via=via)
    again = await _post(doors, deposit(wallet, "1.00"), key, via=via)

    assert [first.status, again.status] == [202, 200]
    assert again.json["id"] == first.json["id"]


@_PATHS
@pytest.mark.parametrize(
    "lines",
    [
        ["Prefer: respond-async", "Prefer: wait=20"],
        ["Prefer: wait=20", "prefer: wait=0"],
        ["Prefer: respond-async, Wait=20"],
        ["PREFER: wait=20"],
    ],
)
async def test_several_lines_of_prefer_are_one_list(
    doors: CheckedDoors, wallet: str, lines: list[str], via: str
) -> None:
    key = f"Idempotency-Key: {uuid4().hex}"
    answer = await _post(doors, deposit(wallet, "1.00"), key, *lines, via=via)

    assert (answer.status, answer.json["status"]) == (200, "COMPLETED")
    assert answer.headers["Preference-Applied"] == "wait=20"


@_PATHS
async def test_two_keys_to_the_door_are_refused(doors: CheckedDoors, wallet: str, via: str) -> None:
    key = f"Idempotency-Key: {uuid4().hex}"
    answer = await _post(
        doors, deposit(wallet, "1.00"), key, "Authorization: Bearer ack_other", via=via
    )

    check_problem(answer, "/v1/transactions")
    assert (answer.status, answer.code) == (400, "invalid_parameter")


@_PATHS
@pytest.mark.parametrize(
    "line",
    [
        "~Content-Type: Application/JSON",
        "~content-type: APPLICATION/JSON; CHARSET=UTF-8",
        '~Content-Type: application/json;charset="utf-8"',
        "~authorization: BEARER {key}",
        "~AUTHORIZATION: bearer {key}",
    ],
)
async def test_words_of_http_are_read_in_any_letters(
    doors: CheckedDoors, wallet: str, line: str, via: str
) -> None:
    key = f"Idempotency-Key: {uuid4().hex}"
    named = line.format(key=doors.system.api_key)
    answer = await _post(doors, deposit(wallet, "1.00"), key, named, via=via)

    assert answer.status == 202


@_PATHS
async def test_a_client_that_sends_nothing_more_gets_its_answer(
    doors: CheckedDoors, wallet: str, via: str
) -> None:
    content = orjson.dumps(deposit(wallet, "1.00"))
    key = f"Idempotency-Key: {uuid4().hex}"
    lines = [key, "Prefer: wait=20", *via.splitlines()]
    head = _head(doors, "/v1/transactions", len(content), *lines)
    async with wire_to(doors) as wire:
        answer = await wire.ask(head + content, is_end=True)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"COMPLETED"' in answer


async def _counted(doors: CheckedDoors) -> dict[tuple[str, str], float]:
    """How often each call was answered with each status, as the metrics have it."""
    async with Api(doors.system.status_urls["ingress"], None) as status:
        text = (await status.get("/metrics")).body.decode()
    return {(call, code): float(count) for call, code, count in _COUNTED.findall(text)}


@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
async def test_a_client_that_hangs_up_in_its_body_is_no_failure_of_ours(
    doors: CheckedDoors, framing: str
) -> None:
    call = "submit_transaction_batch"
    before = await _counted(doors)
    head = (
        "POST /v1/transactions/batch HTTP/1.1\r\nHost: bank\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {doors.system.api_key}\r\n{framing}\r\n\r\n"
    )
    host, _, port = doors.system.http_url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + b'8\r\n{"transa')
    await writer.drain()
    writer.close()

    async def is_counted() -> bool:
        return (await _counted(doors)).get((call, "499"), 0) == before.get((call, "499"), 0) + 1

    await eventually(is_counted, what="the request is counted as the client's end")
    after = await _counted(doors)
    assert {one for one in after if one[1].startswith("5") and after[one] > before.get(one, 0)} == (
        set()
    )


async def test_a_problem_names_twenty_fields_and_says_how_many_there_are(api: CheckedApi) -> None:
    wide = {str(number): 0 for number in range(4_000)}
    single = await api.call("POST", "/v1/transactions", json={**wide, "idempotency_key": "k"})
    wallet = await api.call("POST", "/v1/wallets", json=wide)
    batch = await api.call("POST", "/v1/transactions/batch", json=wide)
    item = await api.call("POST", "/v1/transactions/batch", json={"transactions": [wide]})

    for answer in (single, wallet, batch):
        assert (answer.status, answer.code) == (422, "validation_failed")
        assert len(answer.json["errors"]) == 20
        assert "more" in answer.json["detail"]
    assert len(item.json["items"][0]["problem"]["errors"]) == 20
    assert max(map(len, (single.body, wallet.body, batch.body, item.body))) < 4_000


async def test_more_fields_than_any_request_has_are_refused_unread(api: CheckedApi) -> None:
    wide = {str(number): 0 for number in range(50_000)}
    for path in ("/v1/transactions", "/v1/wallets", "/v1/transactions/batch"):
        answer = await api.call("POST", path, json=wide)

        assert (answer.status, answer.code) == (422, "validation_failed")
        assert "too many fields" in answer.json["errors"][0]["detail"]


async def test_a_name_as_long_as_the_body_is_not_sent_back(api: CheckedApi) -> None:
    answer = await api.call("POST", "/v1/wallets", json={"currency": "USD", "x" * 500_000: 1})
    twice = b'{"' + b"x" * 200_000 + b'":1,"' + b"x" * 200_000 + b'":1}'
    repeated = await api.call("POST", "/v1/wallets", data=twice)

    assert [answer.code, repeated.code] == ["validation_failed", "malformed_json"]
    assert max(len(answer.body), len(repeated.body)) < 1_000
