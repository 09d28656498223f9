"""Query parameters, cursors and ids in paths: known and sane, or refused."""

from uuid import uuid4

import pytest

from ingress.parsing import Query
from tests.integration.ingress.document import CheckedApi

_LISTS = ["/v1/wallets", "/v1/transactions", "/v1/wallets/{wallet}/entries"]


@pytest.mark.parametrize("path", _LISTS)
@pytest.mark.parametrize(
    "limit", ["0", "201", "-1", "abc", "", "1.0", "1e1", "٣", "99999999999999999999", " 5"]
)
async def test_a_limit_is_1_to_200(api: CheckedApi, wallet: str, path: str, limit: str) -> None:
    answer = await api.get(path.format(wallet=wallet), limit=limit)

    assert (answer.status, answer.code) == (400, "invalid_parameter")


@pytest.mark.parametrize("path", _LISTS)
@pytest.mark.parametrize("limit", ["1", "200"])
async def test_the_bounds_of_a_limit_are_allowed(
    api: CheckedApi, wallet: str, path: str, limit: str
) -> None:
    assert (await api.get(path.format(wallet=wallet), limit=limit)).status == 200


@pytest.mark.parametrize("path", _LISTS)
@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "!" * 20, "A" * 513, "A" * 7000])
async def test_a_cursor_that_no_list_made_is_refused(
    api: CheckedApi, wallet: str, path: str, cursor: str
) -> None:
    answer = await api.get(path.format(wallet=wallet), cursor=cursor)

    assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    ("path", "listing"),
    [("/v1/wallets", "wallets"), ("/v1/transactions", "transactions")],
)
@pytest.mark.parametrize("position", [b"x", b"\xff" * 15, b"\x00" * 17, b"\xff" * 300])
async def test_a_forged_cursor_is_refused(
    api: CheckedApi, path: str, listing: str, position: bytes
) -> None:
    cursor = Query([], frozenset()).cursor(listing, position)
    assert cursor is not None
    answer = await api.get(path, cursor=cursor)

    assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize("position", [b"\xff" * 8, b"\xff" * 9, b"\x01" * 200])
async def test_a_forged_cursor_of_entries_is_refused(
    api: CheckedApi, wallet: str, position: bytes
) -> None:
    cursor = Query([], frozenset()).cursor(f"entries:{wallet}", position)
    assert cursor is not None
    answer = await api.get(f"/v1/wallets/{wallet}/entries", cursor=cursor)

    assert (answer.status, answer.code) == (400, "invalid_cursor")


async def test_a_cursor_belongs_to_its_list_and_its_filters(api: CheckedApi) -> None:
    owner = uuid4().hex
    wallets = [await api.create_wallet(owner_id=owner) for _ in range(3)]
    for wallet in wallets[:2]:
        for _ in range(2):
            await api.deposit(wallet, "1.00")
    page = await api.get("/v1/wallets", owner_id=owner, limit="1")
    cursor = page.json["next_cursor"]
    history = await api.get(f"/v1/wallets/{wallets[0]}/entries", limit="1")
    entries = history.json["next_cursor"]
    refused = [
        await api.get("/v1/wallets", cursor=cursor),
        await api.get("/v1/wallets", cursor=cursor, owner_id="another"),
        await api.get("/v1/wallets", cursor=cursor, owner_id=owner, currency="USD"),
        await api.get("/v1/transactions", cursor=cursor),
        await api.get(f"/v1/wallets/{wallets[1]}/entries", cursor=entries),
        await api.get(f"/v1/wallets/{wallets[0]}/entries", cursor=entries, type="deposit"),
    ]
    allowed = await api.get("/v1/wallets", cursor=cursor, owner_id=owner, limit="2")

    assert {(answer.status, answer.code) for answer in refused} == {(400, "invalid_cursor")}
    assert [one["id"] for one in allowed.json["items"]] == wallets[1:]


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/v1/wallets", {"colour": "red"}),
        ("/v1/wallets", {"currency": "usd"}),
        ("/v1/wallets", {"currency": "XXX"}),
        ("/v1/wallets", {"status": "OPEN"}),
        ("/v1/wallets", {"kind": "external"}),
        ("/v1/wallets", {"include_deleted": "yes"}),
        ("/v1/wallets", {"owner_id": ""}),
        ("/v1/wallets", {"owner_id": "a\x00b"}),
        ("/v1/wallets/{wallet}", {"at": "now"}),
        ("/v1/wallets/{wallet}/balance", {"at": "yesterday"}),
        ("/v1/wallets/{wallet}/balance", {"at": "2026-01-01"}),
        ("/v1/wallets/{wallet}/balance", {"at": "2026-01-01T00:00:00"}),
        ("/v1/wallets/{wallet}/balance", {"at": "1700000000"}),
        ("/v1/wallets/{wallet}/balance", {"at": "2026-02-30T00:00:00Z"}),
        ("/v1/wallets/{wallet}/balance", {"at": ""}),
        ("/v1/wallets/{wallet}/entries", {"from": "5"}),
        ("/v1/wallets/{wallet}/entries", {"to": "tomorrow"}),
        ("/v1/wallets/{wallet}/entries", {"type": "gift"}),
        ("/v1/transactions", {"status": "completed"}),
        ("/v1/transactions", {"type": "TRANSFER"}),
        ("/v1/transactions", {"wallet_id": "7"}),
        ("/v1/transactions", {"wallet_id": ""}),
        ("/v1/transactions", {"reference": "TXN-"}),
        ("/v1/transactions", {"reference": "é" * 26}),
        ("/v1/transactions", {"reference": "TXN-" + "1" * 26}),
        ("/v1/transactions", {"submitter": "demo"}),
        ("/v1/transactions", {"from": "2026-13-01T00:00:00Z"}),
    ],
    ids=str,
)
async def test_a_bad_parameter_is_refused(
    api: CheckedApi, wallet: str, path: str, parameters: dict[str, str]
) -> None:
    answer = await api.get(path.format(wallet=wallet), **parameters)

    assert (answer.status, answer.code) == (400, "invalid_parameter")


async def test_a_parameter_that_stands_twice_is_refused(api: CheckedApi) -> None:
    answer = await api.get("/v1/wallets?currency=USD&currency=EUR")

    assert (answer.status, answer.code) == (400, "invalid_parameter")


async def test_a_post_has_no_query_parameters(api: CheckedApi) -> None:
    answer = await api.call("POST", "/v1/wallets?currency=USD", json={"currency": "USD"})

    assert (answer.status, answer.code) == (400, "invalid_parameter")


@pytest.mark.parametrize("key", ["k" * 256, "schlüssel", "two words"])
async def test_a_search_for_an_impossible_key_is_refused(api: CheckedApi, key: str) -> None:
    answer = await api.get("/v1/transactions", idempotency_key=key)

    assert answer.status == 400


@pytest.mark.parametrize("id_", ["7", "not-a-uuid", "0199a1f26c1e7d4080015f2d9c7be311", "%00", "é"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/wallets/{}",
        "/v1/wallets/{}/entries",
        "/v1/wallets/{}/balance",
        "/v1/transactions/{}",
    ],
)
async def test_an_id_in_a_path_is_a_uuid(api: CheckedApi, path: str, id_: str) -> None:
    answer = await api.get(path.format(id_))

    assert answer.code == "invalid_parameter"
    assert answer.status == 400


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/wallets/{}", "wallet_not_found"),
        ("/v1/wallets/{}/entries", "wallet_not_found"),
        ("/v1/wallets/{}/balance", "wallet_not_found"),
        ("/v1/transactions/{}", "transaction_not_found"),
    ],
)
async def test_an_unknown_id_is_not_found(api: CheckedApi, path: str, code: str) -> None:
    answer = await api.get(path.format(uuid4()))

    assert (answer.status, answer.code) == (404, code)


async def test_a_change_of_an_unknown_wallet_is_not_found(api: CheckedApi) -> None:
    answer = await api.call("PATCH", f"/v1/wallets/{uuid4()}", json={"status": "FROZEN"})

    assert (answer.status, answer.code) == (404, "wallet_not_found")


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31T23:59:59Z",
    ],
)
async def test_the_ends_of_time_are_no_fault_of_ours(
    api: CheckedApi, wallet: str, moment: str
) -> None:
    answers = [
        await api.get(f"/v1/wallets/{wallet}/balance", at=moment),
        await api.get(f"/v1/wallets/{wallet}/entries", **{"from": moment}),
        await api.get(f"/v1/wallets/{wallet}/entries", to=moment),
        await api.get("/v1/transactions", wallet_id=wallet, to=moment),
        await api.get("/v1/transactions", wallet_id=wallet, **{"from": moment}),
    ]

    assert {answer.status for answer in answers} <= {200, 400}
