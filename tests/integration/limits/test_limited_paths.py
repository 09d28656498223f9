"""Limited clients over the wire: on both HTTP paths alike, by class, by address, by account."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import orjson
import pytest

from ingress.people.token_keys import TokenKeys
from tests.integration.ingress.document import CheckedApi, check_problem
from tests.integration.ingress.serving import CheckedDoors, new_api_key, open_doors
from tests.integration.ingress.test_http_paths import AIOHTTP, FAST, _shape
from tests.integration.ingress.wire import wire_to
from tests.integration.people.persons import PASSWORD, People, new_email
from tests.support import Answer, deposit, transfer
from tools.stack import Stack

ORIGIN: Final = "https://shop.example"
_WAITS: Final = re.compile(rb"(?<=;t=)[0-9]+|(?<=Reset: )[0-9]+|(?<=Retry-After: )[0-9]+")
_SUBMITTERS: Final = (b"limited-0", b"limited-1")
_LIMITED: Final = [f"limited-{n}" for n in range(6)]
_SETTINGS: Final = {
    "ACKLEDGER_RATE_LIMITS": (
        "premium=3/1h authenticated=60/1h deposit=2/1h transfer=3/1h anonymous=20/1h login=8/1h"
    ),
    "ACKLEDGER_RATE_LIMIT_CLIENTS": " ".join(f"{name}=premium" for name in _LIMITED),
    "ACKLEDGER_TRUSTED_PROXIES": "127.0.0.1",
    "ACKLEDGER_CORS_ORIGINS": ORIGIN,
}


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A system with limits that this module's callers reach."""
    keys = tmp_path_factory.mktemp("keys") / "tokens"
    TokenKeys(keys).rotate(datetime.now(tz=UTC))
    settings = {**_SETTINGS, "ACKLEDGER_TOKEN_KEYS": str(keys)}
    directory = tmp_path_factory.mktemp("system")
    async with open_doors(stack, template, directory, settings=settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def people(doors: CheckedDoors) -> AsyncIterator[People]:
    async with CheckedApi(doors.system.http_url, None) as nobody:
        yield People(doors, nobody)


def _request(
    token: str, via: str, body: Mapping[str, Any] | None, path: str = "/v1/transactions"
) -> bytes:
    content = b"" if body is None else orjson.dumps(body)
    lines = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        "Host: bank",
        f"Authorization: Bearer {token}",
        *([] if body is None else [f"Content-Length: {len(content)}"]),
        "Content-Type: application/json",
        f"Idempotency-Key: key-{uuid4().hex}",
    ]
    return ("\r\n".join(lines) + "\r\n" + via + "\r\n").encode() + content


def _timeless(answer: bytes) -> bytes:
    """Return an answer without what differs between two, and without how long to wait."""
    return _WAITS.sub(b"~", _shape(answer).replace(_SUBMITTERS[0], _SUBMITTERS[1]))


def _status(answer: bytes) -> int:
    return int(answer[9:12])


def _headers(answer: bytes) -> dict[str, str]:
    head = answer.partition(b"\r\n\r\n")[0].decode()
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:])


async def _asked(doors: CheckedDoors, requests: Sequence[bytes]) -> list[bytes]:
    """Send requests on one connection, one after the other."""
    async with wire_to(doors) as wire:
        return [await wire.ask(request) for request in requests]


async def test_a_limited_client_is_answered_alike_on_both_paths(doors: CheckedDoors) -> None:
    wallet = await doors.api.create_wallet()
    made = await doors.api.submit(deposit(wallet, "5.00"))
    answers = []
    for name, via in zip(_LIMITED, (FAST, AIOHTTP), strict=False):
        token = await new_api_key(doors.database_url, name)
        requests = [
            _request(token, via, deposit(wallet, "1.00")),
            _request(token, via, {"type": "nothing"}),
            _request(token, via, None, f"/v1/transactions/{made.json['id']}"),
            _request(token, via, deposit(wallet, "1.00")),
            _request(token, via, None, f"/v1/transactions/{made.json['id']}"),
        ]
        answers.append(await _asked(doors, requests))

    fast, aiohttp = answers
    assert [_status(one) for one in fast] == [202, 422, 200, 429, 429]
    assert [_timeless(one) for one in fast] == [_timeless(one) for one in aiohttp]
    headers = _headers(fast[0])
    assert headers["RateLimit-Policy"] == '"premium-1h";q=3;w=3600'
    assert headers["RateLimit"].startswith('"premium-1h";r=2;t=1')
    refused = _headers(fast[3])
    assert refused["RateLimit"].startswith('"premium-1h";r=0;t=1')
    assert 1100 < int(refused["Retry-After"]) <= 1200
    assert refused["Retry-After"] == refused["RateLimit-Reset"]
    assert orjson.loads(fast[3].partition(b"\r\n\r\n")[2])["code"] == "rate_limited"


async def test_one_limit_holds_for_both_paths_and_all_connections(doors: CheckedDoors) -> None:
    token = await new_api_key(doors.database_url, _LIMITED[2])
    wallet = await doors.api.create_wallet()
    requests = [_request(token, via, deposit(wallet, "1.00")) for via in (FAST, AIOHTTP) * 6]
    answers = await asyncio.gather(*(_asked(doors, [request]) for request in requests))

    assert sorted(_status(one) for [one] in answers) == [202] * 3 + [429] * 9


async def test_what_is_refused_before_it_is_counted_counts_as_a_request(
    doors: CheckedDoors,
) -> None:
    token = await new_api_key(doors.database_url, _LIMITED[3])
    async with CheckedApi(doors.system.http_url, token) as api:

        async def post(path: str, body: bytes, kind: str) -> Answer:
            headers = {"Content-Type": kind}
            return await api.call("POST", f"/v1/transactions{path}", data=body, headers=headers)

        found = [
            await post("", b"{}", "text/plain"),
            await post("/batch", b"[", "application/json"),
            await api.get("/v1/wallets", nonsense="1"),
            await api.get("/v1/wallets"),
        ]

    assert [one.status for one in found] == [415, 400, 400, 429]


async def test_systems_without_a_class_are_not_limited(doors: CheckedDoors) -> None:
    wallet = await doors.api.create_wallet()
    answers = await asyncio.gather(
        *(doors.api.submit(deposit(wallet, "1.00"), wait=None) for _ in range(100))
    )

    assert {one.status for one in answers} == {202}
    assert not any("RateLimit" in one.headers for one in answers)


async def _submit(person: Any, body: Mapping[str, Any], via: str) -> int:
    token = person.tokens["access_token"]
    [answer] = await _asked(person.people.doors, [_request(token, via, body)])
    return _status(answer)


@pytest.mark.parametrize("via", [FAST, AIOHTTP], ids=["fast", "aiohttp"])
async def test_a_person_s_transactions_are_limited_by_type(people: People, via: str) -> None:
    person = await people.person()
    one, other = str(uuid4()), str(uuid4())
    deposits = [await _submit(person, deposit(one, "1.00"), via) for _ in range(3)]
    transfers = [await _submit(person, transfer(one, other, "1.00"), via) for _ in range(4)]

    # Whether they may move money there is another question, which comes after the count.
    assert 429 not in deposits[:2] + transfers[:3]
    assert [deposits[2], transfers[3]] == [429, 429]


async def test_a_batch_counts_each_of_its_transactions(people: People) -> None:
    person = await people.person()

    async def batch(count: int) -> Answer:
        items = [
            {**transfer(str(uuid4()), str(uuid4()), "1.00"), "idempotency_key": uuid4().hex}
            for _ in range(count)
        ]
        return await person.call("POST", "/v1/transactions/batch", {"transactions": items})

    too_many, fitting, more = await batch(4), await batch(3), await batch(1)

    assert [too_many.status, more.status] == [429, 429]
    assert fitting.status != 429


async def test_a_preview_counts_as_a_request_for_each_of_its_transactions(people: People) -> None:
    person = await people.person()

    async def preview(count: int) -> int:
        items = [transfer(str(uuid4()), str(uuid4()), "1.00") for _ in range(count)]
        body = {"transactions": items}
        return (await person.call("POST", "/v1/transactions/preview", body)).status

    # Of 60 in an hour.
    statuses = [await preview(count) for count in (61, 40, 40, 1)]

    assert statuses == [429, 404, 429, 404]


async def test_logins_are_limited_by_the_address_that_a_trusted_proxy_names(
    doors: CheckedDoors,
) -> None:
    async with CheckedApi(doors.system.http_url, None) as nobody:

        async def log_in(address: str) -> Answer:
            body = {"email": new_email(), "password": PASSWORD}
            return await nobody.call(
                "POST", "/v1/auth/login", json=body, headers={"X-Forwarded-For": address}
            )

        found = [await log_in(f"203.0.113.7, 192.0.2.{n % 2}") for n in range(18)]
        other = await log_in("192.0.2.9")

    assert [one.status for one in found] == [401] * 16 + [429] * 2
    assert found[-1].headers["RateLimit-Policy"] == (
        '"anonymous-1h";q=20;w=3600, "login-1h";q=8;w=3600'
    )
    assert other.status == 401


async def test_wrong_passwords_slow_an_account_and_the_right_one_waits_too(people: People) -> None:
    email = await people.register()

    async def log_in(password: str, n: int) -> Answer:
        return await people.nobody.call(
            "POST",
            "/v1/auth/login",
            json={"email": email, "password": password},
            headers={"X-Forwarded-For": f"198.51.100.{n}"},
        )

    tried = [await log_in("wrong password, long enough", n) for n in range(5)]
    right = await log_in(PASSWORD, 5)

    assert [one.status for one in tried] == [401] * 5
    check_problem(right, "/v1/auth/login")
    assert (right.status, right.headers["Retry-After"]) == (429, "1")


async def test_pages_of_a_named_origin_may_call_and_read_what_they_need(
    doors: CheckedDoors,
) -> None:
    wallet = await doors.api.create_wallet()
    path = f"/v1/wallets/{wallet}"
    asks = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH"}
    preflight = await doors.api.call("OPTIONS", path, headers=asks)
    read = await doors.api.call("GET", path, headers={"Origin": ORIGIN})
    missing = await doors.api.call("GET", "/v1/nothing", headers={"Origin": ORIGIN})
    fast = _request(doors.system.api_key, f"Origin: {ORIGIN}\r\n", deposit(wallet, "1.00"))
    [submitted] = await _asked(doors, [fast])

    assert preflight.status == 204
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert submitted.startswith(b"HTTP/1.1 202 ")
    for headers in (preflight.headers, read.headers, missing.headers, _headers(submitted)):
        assert headers["Access-Control-Allow-Origin"] == ORIGIN
        assert headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in headers
        for name in ("X-Request-Id", "Location", "Idempotency-Replayed", "ETag", "RateLimit"):
            assert name in headers["Access-Control-Expose-Headers"].split(", ")


@pytest.mark.parametrize(
    "origin",
    ["https://shop.example.evil", "https://shop.example:8443", "http://shop.example", "null", "*"],
)
async def test_other_origins_are_told_nothing(doors: CheckedDoors, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    preflight = await doors.api.call("OPTIONS", "/v1/wallets", headers=headers)
    read = await doors.api.call("GET", "/v1/wallets", headers={"Origin": origin})

    assert (preflight.status, read.status) == (405, 200)
    for answer in (preflight, read):
        assert not any(name.startswith("Access-Control") for name in answer.headers)


async def test_every_answer_is_protected_from_browsers(doors: CheckedDoors) -> None:
    wallet = await doors.api.create_wallet()
    async with CheckedApi(doors.system.http_url, None) as nobody:
        answers = [
            await doors.api.get(f"/v1/wallets/{wallet}"),
            await doors.api.get("/v1/wallets"),
            await doors.api.submit(deposit(wallet, "1.00"), wait=None),
            await nobody.get("/v1/wallets"),
            await nobody.get("/v1/nothing"),
            await nobody.get("/healthz"),
            await nobody.get("/docs"),
            await nobody.get("/openapi.json"),
        ]
    [malformed] = await _asked(doors, [b"GET / HTTP/9\r\n\r\n"])

    for headers in [*(one.headers for one in answers), _headers(malformed)]:
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        # Nor does any name the libraries, and which of their weaknesses are not mended.
        assert headers["Server"] == "ackledger"
    cached = [one.headers["Cache-Control"] for one in answers]
    assert cached[0] == "private, no-cache"
    assert set(cached[1:6]) == {"no-store"}
