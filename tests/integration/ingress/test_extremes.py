"""Whatever either door accepts, every later reader and writer can bear: each field's extremes.

Each extreme goes through both doors, alone and among a thousand, and comes back the same from the
answer, the read, the list, the history, the event, the reply, the dead letter, the replay of a file
and the command line.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aio_pika
import orjson
import pytest

from contracts.messages import MESSAGE_BYTES_MAX
from contracts.money import AMOUNT_MINOR_MAX, EXPONENTS, format_minor
from contracts.operations import BODY_BYTES_MAX
from contracts.requests.transaction import BATCH_MAX
from contracts.requests.validators import (
    DESCRIPTION_MAX,
    IDEMPOTENCY_KEY_MAX,
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
    METADATA_VALUES_MAX,
)
from tests.integration.command_line.calling import Called, ackledger
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.integration.processor.correspondents import Listener, dead_letter, ended, listening
from tests.support import deposit, requested, withdrawal

pytestmark = pytest.mark.long

Json = dict[str, Any]

# A currency of each number of decimals that there is.
_CURRENCIES: Final = {exponent: code for code, exponent in sorted(EXPONENTS.items(), reverse=True)}


def _nested(levels: int, kind: str) -> Any:
    value: Any = "\U0001f600"
    for _ in range(levels - 1):
        value = [value] if kind == "list" else {"é": value}
    return {"a": value}


def _fullest(text: str) -> Json:
    """Metadata of one text, as long as it may be."""
    least = len(orjson.dumps({"t": ""}))
    return {"t": text * ((METADATA_BYTES_MAX - least) // (len(orjson.dumps(text)) - 2))}


# One character, four bytes; what JSON escapes, in two ways; what other languages take for line ends
# and what some readers take for a byte order or a command of a terminal.
_CHARACTERS: Final = ["\U0001f600", '"', "\\", "\x01", "\x1b", "\x7f", "\u2028", "\ufeff", "\ufffd"]
_METADATA: Final[list[Json]] = [
    _nested(METADATA_DEPTH_MAX, "object"),
    _nested(METADATA_DEPTH_MAX, "list"),
    {str(number): number for number in range(METADATA_VALUES_MAX)},
    {"": {}, '"': [], "\\u0000": None, "\U0001f600" * 100: True},
    {"n": [2**64 - 1, -(2**63), 2**53 + 1, 1.7976931348623157e308, 5e-324, -0.5, 0]},
    *map(_fullest, _CHARACTERS),
]
_KEYS: Final = ["~", '"', "\\", "'", "%", "$", "&"]


def _key(number: int) -> str:
    """A key of the greatest length that ends as no other does."""
    filler = _KEYS[number % len(_KEYS)] * IDEMPOTENCY_KEY_MAX
    return f"{filler}{uuid4().hex}"[-IDEMPOTENCY_KEY_MAX:]


def _extremes(wallets: Mapping[str, str]) -> list[Json]:
    """Transactions in which every field is extreme once, the refused ones among them."""
    made = []
    count = max(len(_METADATA), len(_CHARACTERS), 2 * len(_CURRENCIES))
    for number in range(count):
        currency = _CURRENCIES[sorted(_CURRENCIES)[number // 2 % len(_CURRENCIES)]]
        wallet = wallets[currency]
        minor = 1 if number % 3 == 2 else AMOUNT_MINOR_MAX
        move = deposit if number % 2 == 0 else withdrawal
        made.append(
            {
                **move(wallet, format_minor(minor, currency), currency),
                "description": _CHARACTERS[number % len(_CHARACTERS)] * DESCRIPTION_MAX,
                "metadata": _METADATA[number % len(_METADATA)],
                "idempotency_key": _key(number),
            }
        )
    # Nothing is in this wallet: a FAILED one has its event, too.
    empty = withdrawal(wallets["empty"], "1.00")
    made.extend({**empty, "metadata": one, "idempotency_key": _key(0)} for one in _METADATA[:2])
    return made


def _assert_kept(sent: Json, found: Json) -> None:
    assert {name: found[name] for name in sent} == sent
    assert found["status"] in {"COMPLETED", "FAILED"}, found


@pytest.fixture
async def wallets(api: CheckedApi) -> dict[str, str]:
    """A wallet of each currency that is extreme somehow, and an empty one."""
    made = {
        code: await api.create_wallet(code, metadata=_METADATA[0], owner_id="\U0001f600" * 255)
        for code in _CURRENCIES.values()
    }
    return {**made, "empty": await api.create_wallet()}


async def _assert_readable(api: CheckedApi, sent: Sequence[Json], ids: Sequence[str]) -> None:
    """Assert that each is shown as it was sent, by every call that shows it."""
    for body, transaction_id in zip(sent, ids, strict=True):
        _assert_kept(body, (await api.get(f"/v1/transactions/{transaction_id}")).json)
        named = await api.get("/v1/transactions", idempotency_key=body["idempotency_key"])
        [item] = named.json["items"]
        _assert_kept(body, item)
    wallets = {one.get("destination_wallet_id") or one["source_wallet_id"] for one in sent}
    for wallet in wallets:
        page = await api.get("/v1/transactions", wallet_id=wallet, limit="200")
        history = await api.get(f"/v1/wallets/{wallet}/entries", limit="200")
        assert (page.status, history.status) == (200, 200)
        described = {item["id"]: item["description"] for item in page.json["items"]}
        for entry in history.json["items"]:
            assert entry["description"] == described[entry["transaction_id"]]


class _Events:
    """The events of transactions, by their ids."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._seen: dict[str, Json] = {}

    async def of(self, transaction_id: str) -> Json:
        while transaction_id not in self._seen:
            event = orjson.loads((await self._listener.next()).body)
            self._seen[event["id"]] = event
        return self._seen[transaction_id]


async def test_extremes_over_http_are_borne_by_every_reader_and_writer(
    doors: CheckedDoors, api: CheckedApi, wallets: dict[str, str], tmp_path: Path
) -> None:
    sent, ids = _extremes(wallets), []
    async with listening(doors.amqp_url, exchange="ackledger.events") as listener:
        events = _Events(listener)
        for body in sent:
            key = {"Idempotency-Key": body["idempotency_key"]}
            new = await api.call("POST", "/v1/transactions", json=body, headers=key)
            assert new.status == 202, new.body
            again = await api.submit(body, key=body["idempotency_key"])
            assert again.status == 200
            _assert_kept(body, again.json)
            assert new.json["metadata"] == again.json["metadata"]
            ids.append(new.json["id"])
        for body, transaction_id in zip(sent, ids, strict=True):
            _assert_kept(body, await events.of(transaction_id))

    await _assert_readable(api, sent, ids)
    await _assert_shown(doors, tmp_path, sent[:2], ids[:2])


async def _assert_shown(
    doors: CheckedDoors, directory: Path, sent: Sequence[Json], ids: Sequence[str]
) -> None:
    for body, transaction_id in zip(sent, ids, strict=True):
        shown = await _command(doors, directory, "show", transaction_id, "--json")
        assert shown.code == 0, shown.err
        _assert_kept(body, shown.json)
        table = await _command(doors, directory, "show", transaction_id)
        assert table.code == 0, table.err


async def _command(doors: CheckedDoors, directory: Path, *arguments: str) -> Called:
    variables = {
        "ACKLEDGER_URL": doors.system.http_url,
        "ACKLEDGER_API_KEY": doors.system.api_key,
        "ACKLEDGER_UPSTREAM_AMQP_URL": doors.upstream.url,
        "DATABASE_URL": doors.database_url,
        "AMQP_URL": doors.amqp_url,
    }
    return await ackledger(*arguments, directory=directory / ".local", variables=variables)


@asynccontextmanager
async def _replies(doors: CheckedDoors) -> AsyncIterator[Listener]:
    """A queue for replies under the submitter's own name."""
    async with await aio_pika.connect(doors.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"demo.extremes.{uuid4().hex}", exclusive=True)
        listener = Listener(queue)
        await queue.consume(listener.take, no_ack=True)
        yield listener


async def test_extremes_over_amqp_are_borne_by_every_reader_and_writer(
    doors: CheckedDoors, api: CheckedApi, wallets: dict[str, str]
) -> None:
    sent = _extremes(wallets)
    together = [{**body, "idempotency_key": _key(n)} for n, body in enumerate(sent)]
    async with (
        _replies(doors) as replies,
        listening(doors.amqp_url, exchange="ackledger.events") as listener,
    ):
        events, found = _Events(listener), []
        for body in sent:
            message = requested(body, key=body["idempotency_key"])
            await doors.upstream.publish(message, reply_to=replies.name, routing_key="any")
            found.extend(orjson.loads((await replies.next()).body)["transactions"])
        batch = {"version": 1, "transactions": together}
        await doors.upstream.publish(batch, reply_to=replies.name, routing_key="any")
        found.extend(orjson.loads((await replies.next()).body)["transactions"])
        for body, shown in zip([*sent, *together], found, strict=True):
            _assert_kept(body, shown)
            _assert_kept(body, await events.of(shown["id"]))

    await _assert_readable(api, [*sent, *together], [one["id"] for one in found])


def _filled(wallet: str, size: int) -> list[Json]:
    """A thousand deposits that fill `size` bytes, each with what JSON has to escape."""
    items = [
        {
            **deposit(wallet, "0.01"),
            "idempotency_key": f"{uuid4().hex}{_KEYS[number % len(_KEYS)] * 200}",
            "description": _CHARACTERS[number % len(_CHARACTERS)] * 40,
            "metadata": {str(one): one for one in range(20)},
        }
        for number in range(BATCH_MAX)
    ]
    spare = size - len(orjson.dumps({"version": 1, "transactions": items}))
    assert spare > 0, spare
    least = len(b',"x":""')
    for item in items:
        more = min(spare, METADATA_BYTES_MAX - 400)
        if more <= least:
            break
        item["metadata"]["x"] = "x" * (more - least)
        spare -= more
    return items


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's advice to its clients
async def test_a_thousand_items_at_the_size_limit_pass_through_either_door(
    doors: CheckedDoors, api: CheckedApi
) -> None:
    wallet = await api.create_wallet()
    over_http = _filled(wallet, BODY_BYTES_MAX - 100)
    over_amqp = _filled(wallet, MESSAGE_BYTES_MAX - 100)
    answer = await api.call("POST", "/v1/transactions/batch", json={"transactions": over_http})
    async with _replies(doors) as replies:
        batch = {"version": 1, "transactions": over_amqp}
        await doors.upstream.publish(batch, reply_to=replies.name, routing_key=wallet)
        result = orjson.loads((await replies.next()).body)

    assert {item["status_code"] for item in answer.json["items"]} == {202}
    for body, item in zip(over_http, answer.json["items"], strict=True):
        assert item["transaction"]["metadata"] == body["metadata"]
    for body, shown in zip(over_amqp, result["transactions"], strict=True):
        _assert_kept(body, shown)
    last = await ended(api, over_http[-1]["idempotency_key"])
    assert last["status"] == "COMPLETED"
    assert await api.balance(wallet) == "20.00"


async def test_extremes_in_a_dead_letter_are_shown_and_replayed(
    doors: CheckedDoors, api: CheckedApi, wallets: dict[str, str], tmp_path: Path
) -> None:
    sent = [{**body, "amount": "0", "marker": uuid4().hex} for body in _extremes(wallets)]
    for body in sent:
        await doors.upstream.publish(requested(body, key=body["idempotency_key"]))
    rows = [await dead_letter(doors.database_url, body["marker"].encode()) for body in sent]

    page = await api.get("/v1/dead-letters", limit="200")
    assert {str(row["id"]) for row in rows} <= {item["id"] for item in page.json["items"]}
    for body, row in zip(sent, rows, strict=True):
        letter = await api.get(f"/v1/dead-letters/{row['id']}")
        assert orjson.loads(letter.json["body"])["metadata"] == body["metadata"]
        replayed = await api.call("POST", f"/v1/dead-letters/{row['id']}/replay")
        assert (replayed.status, replayed.code) == (409, "dead_letter_refused")
    shown = await _command(doors, tmp_path, "dead-letters", "show", str(rows[0]["id"]))
    assert shown.code == 0, shown.err


@pytest.mark.parametrize("via", ["http", "amqp"])
async def test_extremes_in_a_file_are_replayed(
    doors: CheckedDoors, api: CheckedApi, wallets: dict[str, str], tmp_path: Path, via: str
) -> None:
    # It leaves the blanks around a text away, U+2028 among them.
    rows = [body for body in _extremes(wallets) if body.get("description", "x").strip()]
    file = tmp_path / "extremes.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
    done = await _command(
        doors, tmp_path, "replay-file", str(file), "--via", via, "--wait", "--json"
    )

    # Not all of it is COMPLETED: some is refused for want of money, and 1 says so.
    assert (done.json["invalid"], done.json["problems"], done.json["settled"]) == (0, {}, True)
    found = await asyncio.gather(*(ended(api, row["idempotency_key"]) for row in rows))
    for row, transaction in zip(rows, found, strict=True):
        _assert_kept(row, transaction)
