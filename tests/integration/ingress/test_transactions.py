"""Transactions: submitted, read at once, awaited, and found again."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import Answer, deposit, eventually, transfer, withdrawal


@pytest.mark.parametrize(
    ("currency", "amounts", "left"),
    [
        ("USD", ["100.50", "0.01", "100.49"], ("0.00", "0.01")),
        ("JPY", ["1000", "999", "1"], ("0", "999")),
        ("KWD", ["1.234", "0.001", "1.230"], ("0.003", "0.001")),
    ],
)
async def test_money_comes_in_moves_and_goes_out_exactly(
    api: CheckedApi, currency: str, amounts: list[str], left: tuple[str, str]
) -> None:
    paid_in, moved, paid_out = amounts
    source, destination = await api.create_wallet(currency), await api.create_wallet(currency)
    answers = [
        await api.submit(deposit(source, paid_in, currency)),
        await api.submit(transfer(source, destination, moved, currency)),
        await api.submit(withdrawal(source, paid_out, currency)),
    ]

    assert [answer.json["status"] for answer in answers] == ["COMPLETED"] * 3
    assert [answer.json["amount"] for answer in answers] == amounts
    assert (await api.balance(source), await api.balance(destination)) == left
    for answer in answers:
        debit, credit = answer.json["entries"]
        assert (debit["amount"], credit["amount"]) == (
            f"-{answer.json['amount']}",
            answer.json["amount"],
        )


async def test_a_transaction_is_read_back_as_it_was_submitted(api: CheckedApi) -> None:
    source, destination = await api.create_wallet(), await api.create_wallet()
    await api.deposit(source, "10.00")
    body = {
        **transfer(source, destination, "4.00"),
        "description": "Größe \U0001f4b6 \\ \"'\n",
        "metadata": {"b": [1, 2.5, None], "a": {"nested": "yes"}},
    }
    key = uuid4().hex
    submitted = await api.submit(body, key=key)
    read = await api.get(f"/v1/transactions/{submitted.json['id']}")

    assert read.json == submitted.json
    assert {name: read.json[name] for name in body} == body
    assert read.json["idempotency_key"] == key
    assert (read.json["submitter"], read.json["channel"]) == ("demo", "http")
    assert read.json["reference"].startswith("TXN-")
    assert (read.json["reverses"], read.json["reversed_by"]) == (None, None)
    assert read.json["created_at"] <= read.json["completed_at"]


async def test_the_outside_wallet_is_not_shown(api: CheckedApi, wallet: str) -> None:
    paid_in = await api.deposit(wallet, "1.00")
    paid_out = await api.submit(withdrawal(wallet, "1.00"))

    assert paid_in.json["source_wallet_id"] is None
    assert paid_out.json["destination_wallet_id"] is None


async def test_a_transaction_can_be_read_as_soon_as_it_is_accepted(
    api: CheckedApi, wallet: str
) -> None:
    async def submit_and_read() -> tuple[Answer, Answer]:
        accepted = await api.submit(deposit(wallet, "1.00"), wait=None)
        return accepted, await api.get(accepted.headers["Location"])

    for accepted, read in await asyncio.gather(*(submit_and_read() for _ in range(50))):
        assert accepted.status == 202
        assert accepted.json["status"] == "PENDING"
        assert accepted.headers["Retry-After"] == "1"
        assert accepted.headers["Location"] == f"/v1/transactions/{accepted.json['id']}"
        assert read.status == 200
        same = {"status", "entries", "completed_at"}
        assert {k: v for k, v in accepted.json.items() if k not in same} == {
            k: v for k, v in read.json.items() if k not in same
        }
        if read.json["status"] == "PENDING":
            assert read.headers["Retry-After"] == "1"


async def test_prefer_wait_answers_200_with_the_final_state(api: CheckedApi, wallet: str) -> None:
    posted = await api.submit(deposit(wallet, "1.00"), wait=30)
    refused = await api.submit(withdrawal(await api.create_wallet(), "1.00"), wait=10)

    assert (posted.status, posted.json["status"]) == (200, "COMPLETED")
    assert posted.headers["Preference-Applied"] == "wait=30"
    assert "Retry-After" not in posted.headers
    assert (refused.status, refused.json["status"]) == (200, "FAILED")
    assert refused.json["completed_at"] is not None


async def test_prefer_wait_works_on_a_read_too(api: CheckedApi, wallet: str) -> None:
    accepted = await api.submit(deposit(wallet, "1.00"), wait=None)
    read = await api.call("GET", accepted.headers["Location"], headers={"Prefer": "wait=20"})

    assert (read.status, read.json["status"]) == (200, "COMPLETED")
    assert read.headers["Preference-Applied"] == "wait=20"


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("wait=10", 200),
        ("respond-async, wait=10", 200),
        ('wait="10"', 200),
        ("WAIT = 10", 200),
        ("wait=100000", 200),
        ("wait=0", 202),
        ("wait=-1", 202),
        ("wait=soon", 202),
        ("await=10", 202),
        ("wait", 202),
    ],
)
async def test_a_preference_that_is_not_understood_is_ignored(
    api: CheckedApi, wallet: str, prefer: str, status: int
) -> None:
    headers = {"Prefer": prefer, "Idempotency-Key": uuid4().hex}
    answer = await api.call(
        "POST", "/v1/transactions", json=deposit(wallet, "1.00"), headers=headers
    )

    assert answer.status == status


async def test_many_wait_at_once_and_each_gets_its_own(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    bodies = [{**deposit(wallet, "1.00"), "description": str(number)} for number in range(80)]
    answers = await asyncio.gather(*(api.submit(body) for body in bodies))

    assert {answer.status for answer in answers} == {200}
    assert [answer.json["description"] for answer in answers] == [str(n) for n in range(80)]
    assert await api.balance(wallet) == "80.00"


_Wallets = dict[str, str]


@pytest.fixture(scope="module")
async def wallets(api: CheckedApi) -> _Wallets:
    """Wallets by what is the matter with them."""
    made = {
        "rich": await api.create_wallet(),
        "poor": await api.create_wallet(),
        "euro": await api.create_wallet("EUR"),
        "nobody": str(uuid4()),
    }
    await api.deposit(made["rich"], "100.00")
    await api.deposit(made["euro"], "100.00", "EUR")
    return made


_REFUSALS: list[tuple[str, Any]] = [
    ("insufficient_funds", lambda w: withdrawal(w["poor"], "0.01")),
    ("insufficient_funds", lambda w: transfer(w["poor"], w["rich"], "0.01")),
    ("insufficient_funds", lambda w: transfer(w["rich"], w["poor"], "100.01")),
    ("currency_mismatch", lambda w: deposit(w["euro"], "1.00")),
    ("currency_mismatch", lambda w: withdrawal(w["euro"], "1.00")),
    ("currency_mismatch", lambda w: transfer(w["rich"], w["euro"], "1.00")),
    ("currency_mismatch", lambda w: transfer(w["rich"], w["poor"], "1.00", "EUR")),
    ("currency_mismatch", lambda w: deposit(w["rich"], "1.00", "MRU")),
    ("same_wallet", lambda w: transfer(w["rich"], w["rich"], "1.00")),
    ("same_wallet", lambda w: transfer(w["nobody"], w["nobody"], "1.00")),
    ("wallet_not_found", lambda w: deposit(w["nobody"], "1.00")),
    ("wallet_not_found", lambda w: deposit(w["nobody"], "1.00", "MVR")),
    ("wallet_not_found", lambda w: withdrawal(w["nobody"], "1.00")),
    ("wallet_not_found", lambda w: transfer(w["rich"], w["nobody"], "1.00")),
    ("wallet_not_found", lambda w: transfer(w["nobody"], w["rich"], "1.00")),
]


@pytest.mark.parametrize(("code", "body_of"), _REFUSALS)
async def test_what_the_business_refuses_is_accepted_and_fails_with_its_reason(
    api: CheckedApi, wallets: _Wallets, code: str, body_of: Any
) -> None:
    accepted = await api.submit(body_of(wallets), wait=None)
    ended = await api.call("GET", accepted.headers["Location"], headers={"Prefer": "wait=20"})

    assert accepted.status == 202
    assert ended.json["status"] == "FAILED"
    assert ended.json["failure"]["code"] == code
    assert ended.json["failure"]["detail"]
    assert ended.json["entries"] == []
    assert ended.json["completed_at"] is not None
    assert await api.balance(wallets["rich"]) == "100.00"
    assert await api.balance(wallets["poor"]) == "0.00"


async def test_racing_debits_never_overdraw_a_wallet(api: CheckedApi) -> None:
    source = await api.create_wallet()
    others = [await api.create_wallet() for _ in range(4)]
    await api.deposit(source, "10.00")
    answers = await asyncio.gather(
        *(api.submit(transfer(source, others[n % 4], "1.00")) for n in range(40))
    )
    statuses = sorted(answer.json["status"] for answer in answers)

    assert statuses == ["COMPLETED"] * 10 + ["FAILED"] * 30
    assert await api.balance(source) == "0.00"
    balances = [float(await api.balance(other)) for other in others]
    assert sum(balances) == 10.0


async def test_a_client_s_accepted_order_is_the_order_of_posting(api: CheckedApi) -> None:
    wallet = await api.create_wallet()
    ids = [(await api.submit(deposit(wallet, "1.00"), wait=None)).json["id"] for _ in range(30)]

    async def all_posted() -> list[str] | None:
        page = (await api.get(f"/v1/wallets/{wallet}/entries")).json["items"]
        return [one["transaction_id"] for one in page] if len(page) == 30 else None

    assert await eventually(all_posted, what="30 entries") == ids[::-1]


async def test_a_submitter_is_the_client_of_the_key(make_client: MakeClient) -> None:
    name = f"Shop/{uuid4().hex}"
    client = await make_client(name)
    wallet = await client.create_wallet()

    assert (await client.deposit(wallet, "1.00")).json["submitter"] == name
