"""Upstream systems with wallets of their own: what needs another's is recorded, and FAILED."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from contracts.record import Submission, recorded_rows, recording_arguments
from contracts.scopes import Reach
from processor.poster import Poster
from runtime.postgres.pool import Connection, Pool, connect
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, new_api_key
from tests.integration.processor.books import add_wallets, balances_of, transfer_command
from tests.integration.processor.correspondents import ended, listening
from tests.support import Upstream, deposit, eventually, requested, transfer, withdrawal
from tools.stack import add_upstream_user


@dataclass(frozen=True)
class Sender:
    """An upstream system, and the same submitter over HTTP; its wallet has 100 USD."""

    name: str
    upstream: Upstream
    api: CheckedApi
    wallet: str

    async def asked(self, body: dict[str, Any], **properties: Any) -> dict[str, Any]:
        """Publish one transaction and return it at its end."""
        key = uuid4().hex
        await self.upstream.publish(requested(body, key=key), **properties)
        return await ended(self.api, key)


async def _register(database_url: str, name: str, **columns: Any) -> None:
    """Write the record of an upstream system."""
    connection = await connect(database_url, name="test")
    try:
        names = ", ".join(["name", *columns])
        marks = ", ".join(f"${n}" for n in range(1, len(columns) + 2))
        await connection.execute(
            f"INSERT INTO clients ({names}) VALUES ({marks})", name, *columns.values()
        )
    finally:
        await connection.close()


@asynccontextmanager
async def _sender(doors: CheckedDoors, **columns: Any) -> AsyncIterator[Sender]:
    name = f"up{uuid4().hex[:12]}"
    await _register(doors.database_url, name, **columns)
    url = await asyncio.to_thread(add_upstream_user, doors.stack, name, "secret", vhost=doors.vhost)
    key = await new_api_key(doors.database_url, name, reach=Reach.OWN)
    async with (
        Upstream(url, user=name) as upstream,
        CheckedApi(doors.system.http_url, key) as api,
    ):
        wallet = await api.create_wallet(owner_id="mine")
        assert (await api.deposit(wallet, "100")).json["status"] == "COMPLETED"
        yield Sender(name, upstream, api, wallet)


@pytest.fixture(scope="module")
async def sender(doors: CheckedDoors) -> AsyncIterator[Sender]:
    """An upstream system that moves only its own wallets."""
    async with _sender(doors) as one:
        yield one


@pytest.fixture(scope="module")
async def theirs(api: CheckedApi) -> str:
    """Another's wallet, with 100 USD."""
    wallet = await api.create_wallet()
    await api.deposit(wallet, "100")
    return wallet


def _hold(wallet: str) -> dict[str, Any]:
    return {"type": "hold", "source_wallet_id": wallet, "amount": "1", "currency": "USD"}


def _journal(*legs: tuple[str | None, str]) -> dict[str, Any]:
    return {
        "type": "journal",
        "legs": [
            {
                **({"external": True} if wallet is None else {"wallet_id": wallet}),
                "amount": amount,
                "currency": "USD",
            }
            for wallet, amount in legs
        ],
    }


_REFUSED: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "withdrawal": lambda _, theirs: withdrawal(theirs, "1"),
    "deposit": lambda _, theirs: deposit(theirs, "1"),
    "transfer": lambda mine, theirs: transfer(theirs, mine, "1"),
    "hold": lambda _, theirs: _hold(theirs),
    "journal": lambda mine, theirs: _journal((theirs, "-1"), (mine, "1")),
    "journal from outside": lambda _, theirs: _journal((None, "-1"), (theirs, "1")),
    "condition": lambda mine, theirs: {
        **withdrawal(mine, "1"),
        "conditions": [{"wallet_id": theirs, "balance_at_most": "1000"}],
    },
}


@pytest.mark.parametrize("kind", sorted(_REFUSED))
async def test_what_needs_another_s_wallet_fails_like_what_needs_none_that_there_is(
    sender: Sender, theirs: str, kind: str
) -> None:
    refused = await sender.asked(_REFUSED[kind](sender.wallet, theirs))
    nobody = await sender.asked(_REFUSED[kind](sender.wallet, str(uuid4())))

    assert (refused["status"], refused["channel"]) == ("FAILED", "amqp")
    assert refused["failure"]["code"] == "wallet_not_found"
    assert nobody["failure"] == refused["failure"]
    assert refused["entries"] == []


async def test_another_s_hold_and_transaction_fail_like_those_that_there_are_not(
    sender: Sender, api: CheckedApi, theirs: str
) -> None:
    held = (await api.submit(_hold(theirs))).json
    paid = (await api.deposit(theirs, "1")).json
    journal = (await api.submit(_journal((None, "-1"), (theirs, "1")))).json
    assert {one["status"] for one in (held, paid, journal)} == {"COMPLETED"}
    failures = [
        (await sender.asked(body))["failure"]
        for one in (held["id"], str(uuid4()))
        for body in ({"type": "capture", "hold_id": one}, {"type": "release", "hold_id": one})
    ]
    failures += [
        (await sender.asked({"type": "reversal", "reverses": one}))["failure"]
        for one in (paid["id"], journal["id"], str(uuid4()))
    ]

    assert {one["code"] for one in failures} == {"wallet_not_found"}
    assert len({one["detail"] for one in failures}) == 1


async def test_its_own_wallets_it_moves_as_before(sender: Sender, theirs: str) -> None:
    second = await sender.api.create_wallet()
    made = [
        await sender.asked(deposit(sender.wallet, "5")),
        await sender.asked(transfer(sender.wallet, second, "5")),
        await sender.asked(transfer(second, theirs, "1")),
        await sender.asked(_hold(second)),
        await sender.asked(_journal((second, "-1"), (theirs, "1"))),
        await sender.asked(_journal((second, "-1"), (sender.wallet, "1"))),
    ]
    undone = [
        await sender.asked({"type": "capture", "hold_id": made[3]["id"]}),
        await sender.asked({"type": "reversal", "reverses": made[5]["id"]}),
        await sender.asked({"type": "reversal", "reverses": made[1]["id"], "amount": "1"}),
    ]
    taken_back = await sender.asked({"type": "reversal", "reverses": made[2]["id"]})

    assert [one["status"] for one in made + undone] == ["COMPLETED"] * 9
    assert taken_back["failure"]["code"] == "wallet_not_found"


async def test_one_such_member_fails_its_atomic_batch(sender: Sender, theirs: str) -> None:
    keys = [uuid4().hex for _ in range(3)]
    bodies = [
        withdrawal(sender.wallet, "1"),
        withdrawal(theirs, "1"),
        withdrawal(sender.wallet, "1"),
    ]
    items = [{**body, "idempotency_key": key} for key, body in zip(keys, bodies, strict=True)]
    await sender.upstream.publish({"version": 1, "mode": "atomic", "transactions": items})
    codes = [(await ended(sender.api, key))["failure"]["code"] for key in keys]

    assert codes == ["batch_failed", "wallet_not_found", "batch_failed"]


async def test_in_a_batch_its_neighbours_are_posted(sender: Sender, theirs: str) -> None:
    keys = [uuid4().hex for _ in range(3)]
    bodies = [
        deposit(sender.wallet, "1"),
        withdrawal(theirs, "1"),
        withdrawal(sender.wallet, "1"),
    ]
    items = [{**body, "idempotency_key": key} for key, body in zip(keys, bodies, strict=True)]
    await sender.upstream.publish({"version": 1, "transactions": items})
    statuses = [(await ended(sender.api, key))["status"] for key in keys]

    assert statuses == ["COMPLETED", "FAILED", "COMPLETED"]


async def test_a_result_shows_no_balance_of_another_s_wallet(
    sender: Sender, doors: CheckedDoors, theirs: str
) -> None:
    key = uuid4().hex
    async with listening(doors.amqp_url, name=f"{sender.name}.results-{key}") as listener:
        await sender.upstream.publish(
            requested(transfer(sender.wallet, theirs, "1"), key=key), reply_to=listener.name
        )
        result = orjson.loads((await listener.next()).body)
    [transaction] = result["transactions"]

    assert transaction["status"] == "COMPLETED"
    assert [one["wallet_id"] for one in transaction["entries"]] == [sender.wallet]


@pytest.mark.parametrize(
    "columns",
    [
        {"allowed_types": ["deposit"]},
        {"allowed_currencies": ["EUR"]},
        {"allowed_owners": ["somebody"]},
    ],
    ids=str,
)
async def test_what_its_record_does_not_allow_is_not_permitted(
    doors: CheckedDoors, columns: dict[str, Any]
) -> None:
    async with _sender(doors, reach="all", **columns) as restricted:
        refused = await restricted.asked(withdrawal(restricted.wallet, "1"))

    assert refused["status"] == "FAILED"
    assert refused["failure"]["code"] == "not_permitted"


async def test_what_its_record_allows_is_posted(doors: CheckedDoors, theirs: str) -> None:
    allowed = {
        "allowed_types": ["withdrawal", "journal"],
        "allowed_currencies": ["USD"],
        "allowed_owners": ["mine"],
    }
    async with _sender(doors, **allowed) as restricted:
        made = [
            await restricted.asked(withdrawal(restricted.wallet, "1")),
            await restricted.asked(_journal((restricted.wallet, "-1"), (theirs, "1"))),
        ]

    assert [one["status"] for one in made] == ["COMPLETED"] * 2


async def test_a_disabled_client_moves_nothing_within_a_second_or_so(doors: CheckedDoors) -> None:
    async with _sender(doors, reach="all") as one:
        assert (await one.asked(withdrawal(one.wallet, "1")))["status"] == "COMPLETED"
        connection = await connect(doors.database_url, name="test")
        await connection.execute(
            "UPDATE clients SET disabled_at = clock_timestamp() WHERE name = $1", one.name
        )
        await connection.close()

        async def refused() -> dict[str, Any] | None:
            found = await one.asked(withdrawal(one.wallet, "1"))
            return found if found["status"] == "FAILED" else None

        failed = await eventually(refused, what="it is refused", within_s=5)

    assert failed["failure"]["code"] == "not_permitted"


def _submission(name: str, key: str, source: UUID, destination: UUID) -> Submission:
    return Submission(name, transfer_command(key, source, destination, 10))


async def _record_amqp(database: Connection, submissions: list[Submission]) -> list[UUID]:
    rows = await database.fetch(
        "SELECT request, id, is_new, is_same, true, created_at FROM record_transactions("
        "'amqp', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *recording_arguments(submissions),
    )
    return [row.id for row in recorded_rows(rows, len(submissions))]


async def test_it_is_judged_however_it_comes_to_be_posted(database: Connection, pool: Pool) -> None:
    """By an id alone: what was recorded before a crash is announced by the reconciler."""
    mine, theirs = await add_wallets(database, 2, balance=100)
    await database.execute("UPDATE wallets SET created_by = 'shop' WHERE id = $1", mine)
    await database.execute("INSERT INTO clients (name) VALUES ('shop')")
    ids = await _record_amqp(
        database,
        [
            _submission("shop", "steal", theirs, mine),
            _submission("shop", "pay", mine, theirs),
            _submission("unknown", "free", theirs, mine),
        ],
    )
    result = await Poster(pool).post(ids)

    assert {one.transaction_id for one in result.posting.posted} == set(ids[1:])
    assert [(one.transaction_id, one.code) for one in result.posting.refused] == [
        (ids[0], "wallet_not_found")
    ]
    assert await balances_of(database, [mine, theirs]) == [100, 100]


async def test_the_same_name_over_http_was_judged_at_its_door(
    database: Connection, pool: Pool
) -> None:
    mine, theirs = await add_wallets(database, 2, balance=100)
    await database.execute("INSERT INTO clients (name) VALUES ('shop')")
    arguments = recording_arguments([_submission("shop", "one", theirs, mine)])
    rows = await database.fetch(
        "SELECT id FROM record_transactions("
        "'http', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *arguments,
    )
    result = await Poster(pool).post([row["id"] for row in rows])

    assert len(result.posting.posted) == 1
