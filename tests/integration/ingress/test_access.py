"""Who may come in, and what their key lets them do."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import aiohttp
import pytest

from cli.api_keys import create_api_key, hash_of, revoke_api_key
from contracts.scopes import KEY_SCOPES, Reach, Scope
from ingress.authentication import KeyUse
from runtime.postgres.pool import connect, create_pool
from tests.integration.ingress.document import CheckedApi, check_problem
from tests.integration.ingress.serving import CheckedDoors, MakeClient, new_api_key
from tests.support import Answer, deposit, eventually


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
    stranger = await make_client(scopes=set(KEY_SCOPES) - {Scope.OPERATIONS, Scope.OPERATIONS_READ})
    operator = await make_client()
    own = await stranger.get("/v1/transactions", idempotency_key=key)
    refused = await stranger.get("/v1/transactions", idempotency_key=key, submitter="demo")
    found = await operator.get("/v1/transactions", idempotency_key=key, submitter="demo")
    other = await operator.get("/v1/transactions", idempotency_key=key, submitter="nobody")

    assert own.json["items"] == []
    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert [one["id"] for one in found.json["items"]] == [mine.json["id"]]
    assert other.json["items"] == []


async def test_an_expired_key_stops_working_within_a_second_or_so(doors: CheckedDoors) -> None:
    connection = await connect(doors.database_url, name="test")
    try:
        _, key = await create_api_key(
            connection,
            client=f"c{uuid4().hex}",
            scopes=[Scope.WALLETS_READ],
            actor="test",
            expires_in=timedelta(seconds=2),
        )
    finally:
        await connection.close()
    async with CheckedApi(doors.system.http_url, key) as api:
        first = await api.get("/v1/wallets")

        async def refused() -> Answer | None:
            answer = await api.get("/v1/wallets")
            return answer if answer.status == 401 else None

        answer = await eventually(refused, what="the key is refused", within_s=5)

    assert first.status == 200
    assert answer.code == "unauthenticated"


async def test_the_last_use_of_a_key_is_noted(doors: CheckedDoors) -> None:
    key = await new_api_key(doors.database_url, f"c{uuid4().hex}", reach=Reach.OWN)
    unused = await new_api_key(doors.database_url, f"c{uuid4().hex}")
    connection = await connect(doors.database_url, name="test")
    query = "SELECT last_used_at FROM api_keys WHERE key_prefix = $1"
    async with CheckedApi(doors.system.http_url, key) as api:
        assert (await api.get("/v1/wallets")).status == 200

        async def noted() -> object:
            return await connection.fetchval(query, key[:12])

        await eventually(noted, what="its use is noted", within_s=15)
    assert await connection.fetchval(query, unused[:12]) is None
    await connection.close()


async def test_the_last_use_is_written_once_a_minute_by_all_processes_together(
    doors: CheckedDoors,
) -> None:
    key = await new_api_key(doors.database_url, f"c{uuid4().hex}")
    query = "SELECT last_used_at FROM api_keys WHERE key_hash = $1"
    async with create_pool(doors.database_url, name="test", size=1, statement_timeout_s=5) as pool:
        found = []
        for use in (KeyUse(pool), KeyUse(pool)):
            for _ in range(2):
                use.note(hash_of(key))
                await use.run_once()
                found.append(await pool.fetchval(query, hash_of(key)))

    assert found[0] is not None
    assert len(set(found)) == 1
