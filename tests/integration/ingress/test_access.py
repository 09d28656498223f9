"""Who may come in, and what their key lets them do."""

import asyncio
from uuid import uuid4

import aiohttp
import pytest

from cli.api_keys import revoke_api_key
from contracts.scopes import KEY_SCOPES, Scope
from runtime.postgres.pool import connect
from tests.integration.ingress.document import CheckedApi, check_problem
from tests.integration.ingress.serving import CheckedDoors, MakeClient, new_api_key
from tests.support import Answer, deposit, eventually

_CALLS: list[tuple[str, str, object, Scope]] = [
    ("POST", "/v1/wallets", {"currency": "USD"}, Scope.WALLETS_WRITE),
    ("PATCH", "/v1/wallets/{id}", {"status": "FROZEN"}, Scope.WALLETS_WRITE),
    ("DELETE", "/v1/wallets/{id}", None, Scope.WALLETS_WRITE),
    ("GET", "/v1/wallets", None, Scope.WALLETS_READ),
    ("GET", "/v1/wallets/{id}", None, Scope.WALLETS_READ),
    ("GET", "/v1/wallets/{id}/entries", None, Scope.WALLETS_READ),
    ("GET", "/v1/wallets/{id}/balance", None, Scope.WALLETS_READ),
    ("POST", "/v1/transactions", deposit(str(uuid4()), "1"), Scope.TRANSACTIONS_WRITE),
    ("POST", "/v1/transactions/batch", {"transactions": [{}]}, Scope.TRANSACTIONS_WRITE),
    ("GET", "/v1/transactions", None, Scope.TRANSACTIONS_READ),
    ("GET", "/v1/transactions/{id}", None, Scope.TRANSACTIONS_READ),
    ("GET", "/v1/seals", None, Scope.TRANSACTIONS_READ),
    ("GET", "/v1/seals/latest", None, Scope.TRANSACTIONS_READ),
    ("GET", "/v1/dead-letters", None, Scope.OPERATIONS),
    ("GET", "/v1/dead-letters/summary", None, Scope.OPERATIONS),
    ("GET", "/v1/dead-letters/{id}", None, Scope.OPERATIONS),
    ("POST", "/v1/dead-letters/{id}/replay", None, Scope.OPERATIONS),
    ("POST", "/v1/dead-letters/{id}/discard", None, Scope.OPERATIONS),
    ("POST", "/v1/dead-letters/replay?submitter=nobody", None, Scope.OPERATIONS),
    ("POST", "/v1/dead-letters/discard?submitter=nobody", None, Scope.OPERATIONS),
]


async def _call(api: CheckedApi, method: str, path: str, body: object) -> Answer:
    headers = {"Idempotency-Key": uuid4().hex} if path.endswith("transactions") else None
    return await api.call(method, path.format(id=uuid4()), json=body, headers=headers)


@pytest.mark.parametrize(("method", "path", "body"), [call[:3] for call in _CALLS])
async def test_every_call_needs_a_key(
    doors: CheckedDoors, method: str, path: str, body: object
) -> None:
    async with CheckedApi(doors.system.http_url, None) as nobody:
        answer = await _call(nobody, method, path, body)

    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "body", "scope"), _CALLS)
async def test_every_call_needs_its_own_scope_and_no_other(
    make_client: MakeClient, method: str, path: str, body: object, scope: Scope
) -> None:
    without = await make_client(scopes=set(KEY_SCOPES) - {scope})
    refused = await _call(without, method, path, body)
    allowed = await _call(await make_client(scopes={scope}), method, path, body)

    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert scope.value in refused.json["detail"]
    assert allowed.status not in {401, 403}


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer ack_unknown",
        b"Bearer " + b"x" * 257,
        b"Basic dXNlcjpwYXNz",
        b"ack_unknown",
        b"Bearer \xff\xfe",
        "Bearer schlüssel".encode(),
        b"Bearer a b",
    ],
)
async def test_a_bad_authorization_is_unauthenticated(
    doors: CheckedDoors, authorization: bytes
) -> None:
    host, _, port = doors.system.http_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /v1/wallets HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
        b"Authorization: " + authorization + b"\r\n\r\n"
    )
    text = await reader.read()
    writer.close()
    head, _, body = text.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 401"), head
    assert b'"unauthenticated"' in body


async def test_a_strange_authorization_does_not_harm_its_neighbours(doors: CheckedDoors) -> None:
    """Look-ups of one instant share a query: what cannot be looked up must not be in it."""
    host, _, port = doors.system.http_url.removeprefix("http://").rpartition(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
    keys = [await new_api_key(doors.database_url, f"c{uuid4().hex}") for _ in connections[::2]]
    tokens = [b"\xff\xfe" if n % 2 else keys[n // 2].encode() for n in range(len(connections))]
    for (_, writer), token in zip(connections, tokens, strict=True):
        writer.write(
            b"GET /v1/wallets?limit=1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
            b"Authorization: Bearer " + token + b"\r\n\r\n"
        )
    answers = [await reader.read() for reader, _ in connections]
    for _, writer in connections:
        writer.close()

    assert [answer[9:12] for answer in answers] == [b"200", b"401"] * 10


async def test_the_scheme_is_read_without_regard_to_case(doors: CheckedDoors) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"{doors.system.http_url}/v1/wallets",
            headers={"Authorization": f"bearer {doors.system.api_key}"},
        ) as response,
    ):
        assert response.status == 200


async def test_a_revoked_key_stops_working_within_a_second_or_so(doors: CheckedDoors) -> None:
    key = await new_api_key(doors.database_url, f"c{uuid4().hex}")
    async with CheckedApi(doors.system.http_url, key) as api:
        assert (await api.get("/v1/wallets")).status == 200
        connection = await connect(doors.database_url, name="test")
        try:
            await revoke_api_key(connection, key[:12], actor="test")
        finally:
            await connection.close()

        async def refused() -> Answer | None:
            answer = await api.get("/v1/wallets")
            return answer if answer.status == 401 else None

        answer = await eventually(refused, what="the key is refused", within_s=2.0)

    assert answer.code == "unauthenticated"
    check_problem(answer, "/v1/wallets")


async def test_a_new_key_works_at_once_even_when_it_was_tried_before(
    doors: CheckedDoors,
) -> None:
    key = await new_api_key(doors.database_url, f"c{uuid4().hex}")
    async with CheckedApi(doors.system.http_url, key) as api:
        assert (await api.get("/v1/wallets")).status == 200


async def test_one_submitter_cannot_search_for_another_s_key_without_the_scope(
    api: CheckedApi, make_client: MakeClient, wallet: str
) -> None:
    key = uuid4().hex
    mine = await api.submit(deposit(wallet, "1.00"), key=key)
    stranger = await make_client(scopes=set(KEY_SCOPES) - {Scope.OPERATIONS})
    operator = await make_client()
    own = await stranger.get("/v1/transactions", idempotency_key=key)
    refused = await stranger.get("/v1/transactions", idempotency_key=key, submitter="demo")
    found = await operator.get("/v1/transactions", idempotency_key=key, submitter="demo")
    other = await operator.get("/v1/transactions", idempotency_key=key, submitter="nobody")

    assert own.json["items"] == []
    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert [one["id"] for one in found.json["items"]] == [mine.json["id"]]
    assert other.json["items"] == []
