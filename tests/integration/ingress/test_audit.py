"""`GET /v1/audit`: who did what to which thing, from where, for whoever may read it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from contracts.scopes import KEY_SCOPES, Scope
from ingress.reads.trail import LAST_ID, AuditFilter, AuditStore
from runtime.postgres.pool import KEYED_SESSION, Pool, connect, create_pool
from runtime.service.pagination import EXAMINED_MAX
from tests.conftest import create_database, drop_database
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient
from tests.support import Answer
from tools.stack import Stack

_ROWS = 3 * EXAMINED_MAX
_FILL = """
INSERT INTO audit_log (id, actor, action, subject)
SELECT uuid_v7(clock_us(), n % 16000), 'many', 'often', 'thing:' || (n % 1000)
FROM generate_series(1, $1::integer) AS n
"""
_READ = """
SELECT
    pg_stat_force_next_flush(),
    (
        SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
        WHERE relname = 'audit_log'
    ) AS rows
"""


async def _freeze(client: CheckedApi, wallet: str, request_id: str, status: str = "FROZEN") -> None:
    answer = await client.call(
        "PATCH",
        f"/v1/wallets/{wallet}",
        json={"status": status},
        headers={"X-Request-Id": request_id},
    )
    assert answer.status == 200, answer.body


async def test_an_act_is_listed_with_its_actor_address_and_request(
    make_client: MakeClient,
) -> None:
    name = f"operator-{uuid4().hex}"
    client = await make_client(client=name)
    wallet = await client.create_wallet()

    await _freeze(client, wallet, "support-4711")

    [item] = (await client.get("/v1/audit", subject=f"wallet:{wallet}")).json["items"]
    assert item.pop("id")
    assert item.pop("occurred_at")
    assert item == {
        "actor": name,
        "action": "wallet.changed",
        "subject": f"wallet:{wallet}",
        "detail": {"fields": ["status"], "status": "FROZEN", "overdraft_limit": 0},
        "address": "127.0.0.1",
        "request_id": "support-4711",
    }


async def test_filters_are_exact_and_pages_are_newest_first(make_client: MakeClient) -> None:
    name = f"operator-{uuid4().hex}"
    client = await make_client(client=name)
    wallets = [await client.create_wallet() for _ in range(3)]
    for number, wallet in enumerate(wallets):
        await _freeze(client, wallet, f"r-{number}")
    await client.call("DELETE", f"/v1/wallets/{wallets[0]}")

    async def requests(**query: str) -> list[str]:
        found, cursor = [], None
        while True:
            more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
            page = (await client.get("/v1/audit", limit="2", **more, **query)).json
            found += [item["request_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    whole = await requests(actor=name)
    moments = (await client.get("/v1/audit", actor=name)).json["items"]
    middle = moments[2]["occurred_at"]

    assert whole[1:] == ["r-2", "r-1", "r-0"]
    assert await requests(actor=name, action="wallet.changed") == whole[1:]
    assert await requests(actor=name, action="wallet.deleted") == whole[:1]
    assert await requests(actor=name, subject=f"wallet:{wallets[0]}") == [whole[0], "r-0"]
    assert await requests(actor=name[:-1]) == []
    assert await requests(actor=name, **{"from": middle}) == whole[:3]
    assert await requests(actor=name, to=middle) == ["r-0"]


async def test_a_key_is_in_the_log_by_its_own_making(doors: CheckedDoors, api: CheckedApi) -> None:
    page = (await api.get("/v1/audit", action="api_key.created", limit="1")).json

    [item] = page["items"]
    assert item["subject"].startswith("api_key:")
    assert (item["address"], item["request_id"]) == (None, None)
    assert doors.system.api_key not in str(page)


async def test_only_who_may_read_it_reads_it(make_client: MakeClient) -> None:
    without = await make_client(
        scopes=[scope for scope in KEY_SCOPES if scope is not Scope.AUDIT_READ]
    )
    auditor = await make_client(scopes=[Scope.AUDIT_READ])

    refused = await without.get("/v1/audit")

    assert (refused.status, refused.code) == (403, "insufficient_scope")
    assert (await auditor.get("/v1/audit")).status == 200


@pytest.mark.parametrize(
    "query",
    [{"actor": ""}, {"from": "yesterday"}, {"limit": "0"}, {"cursor": "x"}, {"who": "ann"}],
)
async def test_what_the_list_does_not_know_is_refused(
    api: CheckedApi, query: dict[str, str]
) -> None:
    answer: Answer = await api.call("GET", "/v1/audit", params=query)

    assert answer.status == 400


async def test_a_record_of_a_release_without_columns_shows_its_request(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    subject = f"wallet:{uuid4()}"
    connection = await connect(doors.database_url, name="test")
    await connection.execute(
        "INSERT INTO audit_log (id, actor, action, subject, detail)"
        " VALUES (uuid_v7(clock_us()), 'shop', 'wallet.deleted', $1, '{\"request_id\": \"r-9\"}')",
        subject,
    )
    await connection.close()

    [item] = (await api.get("/v1/audit", subject=subject)).json["items"]

    assert item["request_id"] == "r-9"


@pytest.fixture(scope="module")
async def large_log(stack: Stack, template: str) -> AsyncIterator[str]:
    """A log of more records than one page examines, the newest of another kind."""
    url = await create_database(stack, template)
    connection = await connect(url, name="test")
    await connection.execute(_FILL, _ROWS)
    await connection.execute(
        "INSERT INTO audit_log (actor, action, subject) VALUES ('rare', 'seldom', 'thing:x')"
    )
    await connection.execute("ANALYZE audit_log")
    await connection.close()
    yield url
    await drop_database(stack, url)


async def _rows_read(pool: Pool) -> int:
    """Return how many rows were read so far; what is pending counts once a statement has ended."""
    await pool.fetchval(_READ, column=1)
    return int(await pool.fetchval(_READ, column=1))


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (AuditFilter(), 10),
        (AuditFilter(actor="nobody"), 0),
        (AuditFilter(action="never"), 0),
        (AuditFilter(subject="thing:7"), 10),
        (AuditFilter(actor="rare"), 1),
        (AuditFilter(action="seldom", actor="many"), 0),
        (AuditFilter(subject="thing:7", actor="nobody"), 0),
        (AuditFilter(end=datetime.fromisoformat("2020-01-01T00:00:00Z")), 0),
    ],
)
async def test_no_filter_walks_the_log(large_log: str, wanted: AuditFilter, matches: int) -> None:
    pool: Pool = create_pool(
        large_log, name="test", size=1, statement_timeout_s=10, session=KEYED_SESSION
    )
    async with pool:
        store = AuditStore(pool)
        # The sixth time a plan is made for any values, and kept.
        for _ in range(6):
            await store.list_page(wanted, before=LAST_ID, limit=10)
        before = await _rows_read(pool)
        rows, _ = await store.list_page(wanted, before=LAST_ID, limit=10)
        after = await _rows_read(pool)

    assert len(rows) == matches
    assert after - before <= 2 * EXAMINED_MAX


async def test_a_page_ends_at_a_moment_and_goes_on_at_a_record(large_log: str) -> None:
    pool: Pool = create_pool(
        large_log, name="test", size=1, statement_timeout_s=10, session=KEYED_SESSION
    )
    async with pool:
        store = AuditStore(pool)
        first, following = await store.list_page(AuditFilter(), before=LAST_ID, limit=2)
        assert following is not None
        second, _ = await store.list_page(AuditFilter(), before=following, limit=2)
        start = second[0]["occurred_at"] - timedelta(seconds=1)
        since, _ = await store.list_page(AuditFilter(start=start), before=LAST_ID, limit=3)

    ids: list[UUID] = [row["id"] for row in (*first, *second)]
    assert ids == sorted(ids, reverse=True)
    assert [row["id"] for row in since] == ids[:3]
