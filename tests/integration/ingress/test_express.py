"""The two lanes of the HTTP door answer alike: a header that means nothing chooses the lane."""

import re
from typing import Final
from uuid import uuid4

import orjson
import pytest

from contracts.access import Scope
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.integration.ingress.wire import wire_to
from tests.support import deposit, eventually, transfer

EXPRESS: Final = ""
AIOHTTP: Final = "TE: trailers\r\n"
"""No header that the express lane serves, and none that changes an answer."""

# What differs between any two answers.
_VARYING: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f-]{27}|TXN-[A-Z2-7]{26}|[0-9a-f]{32}|[0-9T:.-]{26}Z|Date: [^\r]*|key-\w+"
)


def _submit(
    body: bytes,
    *,
    lane: str,
    key: str | None = None,
    token: str = "",
    more: str = "",
) -> bytes:
    name = f"Idempotency-Key: {key}\r\n" if key is not None else ""
    head = (
        "POST /v1/transactions HTTP/1.1\r\nHost: bank\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{name}{more}{lane}\r\n"
    )
    return head.encode() + body


def _read(transaction_id: str, *, lane: str, token: str) -> bytes:
    return (
        f"GET /v1/transactions/{transaction_id} HTTP/1.1\r\nHost: bank\r\n"
        f"Authorization: Bearer {token}\r\n{lane}\r\n"
    ).encode()


def _shape(answer: bytes) -> bytes:
    return _VARYING.sub(b"~", answer)


async def _both(doors: CheckedDoors, request: bytes) -> tuple[bytes, bytes]:
    """What each lane answers to a request without a lane."""
    aiohttp_request = request.replace(b"Host: bank\r\n", b"Host: bank\r\n" + AIOHTTP.encode(), 1)
    async with wire_to(doors) as express, wire_to(doors) as aiohttp:
        return await express.ask(request), await aiohttp.ask(aiohttp_request)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"description": 'a "quoted" naïve text \\ with \u2028'},
        {"metadata": {"b": 1, "a": [1.50, None, {"ö": True}]}},
        {"amount": 7},
        {"amount": "7.5"},
        {"idempotency_key": None},
    ],
)
async def test_a_new_transaction_is_answered_alike(
    doors: CheckedDoors, wallet: str, fields: dict[str, object]
) -> None:
    token = doors.system.api_key
    body = orjson.dumps({**deposit(wallet, "10.00"), **fields})
    answers = []
    for lane in (EXPRESS, AIOHTTP):
        async with wire_to(doors) as wire:
            key = f"key-{uuid4().hex}"
            answers.append(await wire.ask(_submit(body, lane=lane, key=key, token=token)))

    assert answers[0].startswith(b"HTTP/1.1 202 Accepted\r\nLocation: /v1/transactions/")
    assert _shape(answers[0]) == _shape(answers[1])


@pytest.mark.parametrize(
    ("body", "key", "more"),
    [
        (b"", "key-1", ""),
        (b"{", "key-1", ""),
        (b"[]", "key-1", ""),
        (b'{"type": NaN}', "key-1", ""),
        (b'{"type": "transfer"}', "key-1", ""),
        (b'{"type": "transfer", "surprise": 1, "amount": -1}', "key-1", ""),
        (b'{"a": ' * 2000, "key-1", ""),
        (b'{"description": "\\ud800"}', "key-1", ""),
        (b"VALID", None, ""),
        (b"VALID", "", ""),
        (b"VALID", "two words", ""),
        (b"VALID", "k" * 256, ""),
        (b"KEYED", "key-other", ""),
        (b"SAME", "key-1", "X-Request-Id: mine-1\r\n"),
        (
            b"{}",
            "key-1",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
        ),
    ],
)
async def test_a_bad_submission_is_the_same_problem_in_both_lanes(
    doors: CheckedDoors, wallet: str, body: bytes, key: str | None, more: str
) -> None:
    valid = {"currency": "USD", "amount": "1.00", "type": "deposit"}
    named = {
        b"VALID": {**valid, "destination_wallet_id": wallet},
        b"KEYED": {**valid, "destination_wallet_id": wallet, "idempotency_key": "key-mine"},
        b"SAME": {**valid, "destination_wallet_id": wallet, "source_wallet_id": wallet},
    }
    content = orjson.dumps(named[body]) if body in named else body
    request = _submit(content, lane="", key=key, token=doors.system.api_key, more=more)

    express, aiohttp = await _both(doors, request)

    assert re.match(rb"HTTP/1.1 4[0-9]{2} ", express), express
    assert _shape(express) == _shape(aiohttp)
    assert (b"mine-1" in express) == ("mine-1" in more)


async def test_access_is_refused_alike(
    doors: CheckedDoors, make_client: MakeClient, wallet: str
) -> None:
    reader = await make_client(scopes=[Scope.WALLETS_READ])
    body = orjson.dumps(deposit(wallet, "1.00"))
    reader_token = reader._headers["Authorization"].removeprefix("Bearer ")
    for token, status in (("", b"401"), ("ack_wrong", b"401"), (reader_token, b"403")):
        for request in (
            _submit(body, lane="", key="key-x", token=token),
            _read(str(uuid4()), lane="", token=token),
        ):
            express, aiohttp = await _both(doors, request)
            assert express[9:12] == status
            assert _shape(express) == _shape(aiohttp)


async def test_a_wait_for_the_end_is_answered_alike(doors: CheckedDoors) -> None:
    token, wait = doors.system.api_key, "Prefer: wait=20\r\n"

    async def calls(lane: str) -> list[bytes]:
        source, destination = await doors.api.create_wallet(), await doors.api.create_wallet()
        await doors.api.deposit(source, "10.00")
        async with wire_to(doors) as wire:

            async def submit(amount: str, key: str) -> bytes:
                body = orjson.dumps(transfer(source, destination, amount))
                return await wire.ask(_submit(body, lane=lane, key=key, token=token, more=wait))

            key = f"key-{uuid4().hex}"
            completed = await submit("10.00", key)
            return [
                completed,
                await submit("10.00", key),
                await submit("10.01", f"key-{uuid4().hex}"),
                await wire.ask(_read(_id_in(completed), lane=wait + lane, token=token)),
            ]

    answers = [await calls(EXPRESS), await calls(AIOHTTP)]
    completed, replayed, failed, read = answers[0]
    assert completed.startswith(b"HTTP/1.1 200 OK\r\nLocation: /v1/transactions/")
    assert b"Preference-Applied: wait=20" in completed
    assert b'"status":"COMPLETED"' in completed
    assert b"Idempotency-Replayed: true" in replayed
    assert b'"status":"FAILED"' in failed
    assert b"Preference-Applied: wait=20" in read
    for express, aiohttp in zip(*answers, strict=True):
        assert _shape(express) == _shape(aiohttp)


async def test_a_replay_and_a_conflict_are_answered_alike(doors: CheckedDoors, wallet: str) -> None:
    token, key = doors.system.api_key, f"key-{uuid4().hex}"
    body = orjson.dumps(deposit(wallet, "3.00"))
    async with wire_to(doors) as wire:
        first = await wire.ask(_submit(body, lane=EXPRESS, key=key, token=token))
    await _posted(doors.api, _id_in(first))

    express, aiohttp = await _both(doors, _submit(body, lane="", key=key, token=token))
    assert express.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Idempotency-Replayed: true" in express
    assert _id_in(express) == _id_in(first)
    assert _shape(express) == _shape(aiohttp)

    other = orjson.dumps(deposit(wallet, "3.01"))
    express, aiohttp = await _both(doors, _submit(other, lane="", key=key, token=token))
    assert express.startswith(b"HTTP/1.1 422 ")
    assert _shape(express) == _shape(aiohttp)


async def test_a_transaction_is_read_alike(doors: CheckedDoors, wallet: str) -> None:
    token = doors.system.api_key
    other = await doors.api.create_wallet()
    completed = await doors.api.deposit(wallet, "5.00")
    failed = await doors.api.submit(transfer(other, wallet, "5.00"))
    for transaction_id in (completed.json["id"], failed.json["id"], str(uuid4())):
        express, aiohttp = await _both(doors, _read(transaction_id, lane="", token=token))
        # The same transaction: nothing in its body may differ, unless a problem names its request.
        bodies = [answer.partition(b"\r\n\r\n")[2] for answer in (express, aiohttp)]
        assert bodies[0] == bodies[1] or b"request_id" in bodies[0]
        assert _shape(express) == _shape(aiohttp)


async def test_one_connection_serves_many_requests_and_then_another_lanes(
    doors: CheckedDoors, wallet: str
) -> None:
    token = doors.system.api_key
    body = orjson.dumps(deposit(wallet, "1.00"))
    lanes = [EXPRESS, EXPRESS, AIOHTTP, EXPRESS]
    async with wire_to(doors) as wire:
        for lane in lanes:
            key = f"key-{uuid4().hex}"
            answer = await wire.ask(_submit(body, lane=lane, key=key, token=token))
            assert answer.startswith(b"HTTP/1.1 202 ")
            read = await wire.ask(_read(_id_in(answer), lane=lane, token=token))
            assert _id_in(read) == _id_in(answer)


def _id_in(answer: bytes) -> str:
    return str(orjson.loads(answer.partition(b"\r\n\r\n")[2])["id"])


async def _posted(api: CheckedApi, transaction_id: str) -> None:
    async def is_completed() -> bool:
        answer = await api.get(f"/v1/transactions/{transaction_id}")
        return bool(answer.json["status"] == "COMPLETED")

    await eventually(is_completed, what="the transaction is posted")
