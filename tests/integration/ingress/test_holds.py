"""A wallet and its holds, read as they are at one instant."""

import asyncio
import base64
import zlib
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.support import Answer, eventually, transfer


async def _hold(api: CheckedApi, wallet: str, amount: str, expires_in_s: int = 600) -> str:
    answer = await api.submit(
        {
            "type": "hold",
            "source_wallet_id": wallet,
            "amount": amount,
            "currency": "USD",
            "expires_in_s": expires_in_s,
        }
    )
    assert answer.json["status"] == "COMPLETED", answer.json
    return str(answer.json["id"])


async def _wallet_with(api: CheckedApi, amount: str = "100.00") -> str:
    wallet = await api.create_wallet()
    await api.deposit(wallet, amount)
    return wallet


async def _holds(api: CheckedApi, wallet: str, **params: str) -> Answer:
    return await api.get(f"/v1/wallets/{wallet}/holds", **params)


def _ids(answer: Answer) -> list[str]:
    return [item["transaction_id"] for item in answer.json["items"]]


async def test_holds_are_listed_with_what_became_of_them(api: CheckedApi) -> None:
    wallet = await _wallet_with(api)
    captured, released, opened = [await _hold(api, wallet, f"{n}.00") for n in (10, 20, 30)]
    await api.submit({"type": "capture", "hold_id": captured, "amount": "4.00"})
    await api.submit({"type": "release", "hold_id": released})
    answer = await _holds(api, wallet)
    by_status = {
        status: _ids(await _holds(api, wallet, status=status))
        for status in ("OPEN", "CAPTURED", "RELEASED", "EXPIRED")
    }

    assert _ids(answer) == [opened, released, captured]
    assert [
        (item["status"], item["amount"], item["remaining"], item["captured"])
        for item in answer.json["items"]
    ] == [
        ("OPEN", "30.00", "30.00", "0.00"),
        ("RELEASED", "20.00", "0.00", "0.00"),
        ("CAPTURED", "10.00", "0.00", "4.00"),
    ]
    assert by_status == {
        "OPEN": [opened], "CAPTURED": [captured], "RELEASED": [released], "EXPIRED": [],
    }  # fmt: skip
    shown = answer.json["wallet"]
    assert (shown["balance"], shown["held"], shown["available"]) == ("96.00", "30.00", "66.00")


@pytest.mark.parametrize("status", [None, "OPEN"])
async def test_pages_follow_one_another(api: CheckedApi, status: str | None) -> None:
    wallet = await _wallet_with(api)
    made = [await _hold(api, wallet, "1.00", expires_in_s=3_600 - 600 * n) for n in range(5)]
    params = {"limit": "2"} | ({} if status is None else {"status": status})
    found: list[str] = []
    cursor = None
    for _ in range(3):
        page = await _holds(api, wallet, **params, **({} if cursor is None else {"cursor": cursor}))
        found += _ids(page)
        cursor = page.json["next_cursor"]

    # The last was made last, and expires first.
    assert found == made[::-1]
    assert cursor is None


async def test_an_expired_hold_is_worth_nothing_from_its_instant_on(api: CheckedApi) -> None:
    wallet = await _wallet_with(api, "10.00")
    hold = await _hold(api, wallet, "10.00", expires_in_s=3)
    tag = (await api.get(f"/v1/wallets/{wallet}")).headers["ETag"]

    async def expired() -> Any:
        page = await _holds(api, wallet, status="EXPIRED")
        return page if _ids(page) else None

    page = await eventually(expired, what="the hold expires")
    shown = [page.json["wallet"], (await api.get(f"/v1/wallets/{wallet}")).json]
    seen = await api.get(f"/v1/transactions/{hold}")
    spent = await api.submit(transfer(wallet, await api.create_wallet(), "10.00"))

    assert [(one["held"], one["available"]) for one in shown] == [("0.00", "10.00")] * 2
    assert (await api.get(f"/v1/wallets/{wallet}")).headers["ETag"] != tag
    assert (seen.json["hold"]["status"], seen.json["hold"]["remaining"]) == ("EXPIRED", "0.00")
    assert spent.json["status"] == "COMPLETED"


async def test_held_is_always_the_sum_of_the_open_holds(api: CheckedApi) -> None:
    """While holds are made, captured and expire."""
    wallet = await _wallet_with(api)
    is_over = asyncio.Event()

    async def work() -> None:
        for number in range(12):
            hold = await _hold(api, wallet, "2.00", expires_in_s=1 + number % 2 * 600)
            if number % 3 == 0:
                await api.submit({"type": "capture", "hold_id": hold, "amount": "0.50"})
        is_over.set()

    async def look() -> int:
        looked = 0
        while not is_over.is_set():
            page = (await _holds(api, wallet, status="OPEN", limit="200")).json
            remaining = sum((Decimal(item["remaining"]) for item in page["items"]), Decimal())
            assert remaining == Decimal(page["wallet"]["held"]), page
            looked += 1
        return looked

    _, looked = await asyncio.gather(work(), look())

    assert looked > 10


async def test_a_wallet_that_holds_nothing_can_be_changed_and_closed(api: CheckedApi) -> None:
    wallet = await _wallet_with(api, "1.00")
    hold = await _hold(api, wallet, "1.00")
    path = f"/v1/wallets/{wallet}"
    tag = (await api.get(path)).headers["ETag"]
    frozen = await api.call("PATCH", path, json={"status": "FROZEN"}, headers={"If-Match": tag})
    thawed = await api.call("PATCH", path, json={"status": "ACTIVE"})
    await api.submit({"type": "capture", "hold_id": hold})
    closed = await api.call("DELETE", path)

    assert (frozen.status, frozen.json["held"], thawed.status) == (200, "1.00", 200)
    assert closed.status == 204


def _forged(wallet: str, filters: str, position: bytes) -> str:
    check = zlib.crc32(f"('holds:{wallet}', [{filters}])".encode() + position).to_bytes(4, "big")
    return base64.urlsafe_b64encode(check + position).decode().rstrip("=")


async def test_a_forged_cursor_is_refused(api: CheckedApi) -> None:
    wallet = await _wallet_with(api)
    opened = "('status', 'OPEN')"
    answers = [
        await _holds(api, wallet, cursor=_forged(wallet, "", b"\xff" * 15)),
        await _holds(api, wallet, cursor=_forged(wallet, "", b"\xff" * 24)),
        await _holds(api, wallet, status="OPEN", cursor=_forged(wallet, opened, b"\xff" * 16)),
        await _holds(api, wallet, status="OPEN", cursor=_forged(wallet, opened, b"\xff" * 24)),
    ]
    whole = await _holds(api, wallet, cursor=_forged(wallet, "", b"\xff" * 16))

    assert {(one.status, one.code) for one in answers} == {(400, "invalid_cursor")}
    assert whole.status == 200


async def test_the_holds_of_no_wallet_are_not_found(api: CheckedApi) -> None:
    nobody = "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"
    answers = [await _holds(api, nobody), await _holds(api, "x")]
    wrong = await _holds(api, nobody, status="open")

    assert [one.code for one in answers] == ["wallet_not_found", "invalid_parameter"]
    assert (wrong.status, wrong.code) == (400, "invalid_parameter")
