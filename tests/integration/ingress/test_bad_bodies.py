"""Bodies that break the contract: each is refused with its problem, and nothing is recorded."""

from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts.identifiers import external_wallet_id
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import MakeClient
from tests.support import Answer, deposit, transfer, withdrawal

_MIB = 1024 * 1024
_WALLET = "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"
_OTHER = "0199a1f2-7a90-72c8-8001-c84e10d7f0aa"
_DEPOSIT = deposit(_WALLET, "1.00")


def _key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


async def _send(api: CheckedApi, data: bytes, **headers: str) -> Answer:
    return await api.call("POST", "/v1/transactions", data=data, headers={**_key(), **headers})


def _pointers(answer: Answer) -> list[str]:
    return sorted(error["pointer"] for error in answer.json["errors"])


NOT_JSON: list[bytes] = [
    b"",
    b"{",
    b'{"type":"deposit",}',
    b"{'type':'deposit'}",
    b'{"amount": NaN}',
    b'{"amount": Infinity}',
    b'{"amount": -Infinity}',
    b'{"amount": 01}',
    b'{"amount": .5}',
    b'{"amount": +1}',
    b'{"amount": 1e9999999999999999999999}',
    b'{"amount": ' + b"9" * 5000 + b"}",
    b'{"description": "\xff"}',
    b"{} {}",
    b"[" * 100_000,
    b'{"metadata": ' + b'{"a":' * 32 + b"1" + b"}" * 33,
    b'{"metadata": ' + b'{"a":' * 300 + b"1" + b"}" * 301,
    b'{"a": [' + b"1," * 64_000 + b"1]}",
    b'{"amount": "1.00", "amount": "2.00"}',
    b'{"amount" : "1.00","amount":"2.00"}',
    b'{"metadata": {"a": 1, "\\u0061": 2}}',
    b"\x1f\x8b\x08",
    orjson.dumps(_DEPOSIT).decode().encode("utf-16"),
    orjson.dumps(_DEPOSIT).decode().encode("utf-32-be"),
]


@pytest.mark.parametrize("data", NOT_JSON, ids=lambda data: repr(data[:24]))
async def test_what_is_not_json_is_malformed(api: CheckedApi, data: bytes) -> None:
    answer = await _send(api, data)

    assert (answer.status, answer.code) == (400, "malformed_json")


@pytest.mark.parametrize("data", [b"[]", b"null", b'"text"', b"1", b"true"])
async def test_a_body_that_is_no_object_does_not_fit(api: CheckedApi, data: bytes) -> None:
    answer = await _send(api, data)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == [""]


BAD_FIELDS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("unknown field", {**_DEPOSIT, "note": "x"}, ["/note"]),
    ("unknown field with a slash", {**_DEPOSIT, "a/b~c": "x"}, ["/a~1b~0c"]),
    ("empty object", {}, ["/type"]),
    ("a type alone", {"type": "deposit"}, ["/amount", "/currency", "/destination_wallet_id"]),
    ("unknown type", {**_DEPOSIT, "type": "gift"}, ["/type"]),
    ("a reversal", {**_DEPOSIT, "type": "reversal"},
     ["/currency", "/destination_wallet_id", "/reverses"]),
    ("type of another kind", {**_DEPOSIT, "type": 1}, ["/type"]),
    ("wallet that is no id", deposit("x", "1.00"), ["/destination_wallet_id"]),
    ("wallet that is a number", {**_DEPOSIT, "destination_wallet_id": 7},
     ["/destination_wallet_id"]),
    ("deposit without a destination", {**_DEPOSIT, "destination_wallet_id": None},
     ["/destination_wallet_id"]),
    ("deposit with a source", {**_DEPOSIT, "source_wallet_id": _OTHER}, ["/source_wallet_id"]),
    ("withdrawal with a destination",
     {**withdrawal(_WALLET, "1"), "destination_wallet_id": _OTHER}, ["/destination_wallet_id"]),
    ("transfer with one leg", {**transfer(_WALLET, _OTHER, "1"), "source_wallet_id": None},
     ["/source_wallet_id"]),
    ("unknown currency", {**_DEPOSIT, "currency": "XXX"}, ["/currency"]),
    ("currency in small letters", {**_DEPOSIT, "currency": "usd"}, ["/currency"]),
    ("currency with a line end", {**_DEPOSIT, "currency": "USD\n"}, ["/currency"]),
    ("currency that is a number", {**_DEPOSIT, "currency": 840}, ["/currency"]),
    ("description too long", {**_DEPOSIT, "description": "é" * 501}, ["/description"]),
    ("description with NUL", {**_DEPOSIT, "description": "a\x00b"}, ["/description"]),
    ("description of another kind", {**_DEPOSIT, "description": ["x"]}, ["/description"]),
    ("metadata that is a list", {**_DEPOSIT, "metadata": []}, ["/metadata"]),
    ("metadata that is null", {**_DEPOSIT, "metadata": None}, ["/metadata"]),
    ("metadata with NUL", {**_DEPOSIT, "metadata": {"a": "\x00"}}, ["/metadata"]),
    ("metadata with NUL in a key", {**_DEPOSIT, "metadata": {"\x00": 1}}, ["/metadata"]),
    ("metadata too large", {**_DEPOSIT, "metadata": {"a": "x" * 4096}}, ["/metadata"]),
    ("null for a type", {**_DEPOSIT, "type": None}, ["/type"]),
    ("null for a currency", {**_DEPOSIT, "currency": None}, ["/currency"]),
    ("two faults at once", {**_DEPOSIT, "type": "gift", "note": 1}, ["/note", "/type"]),
    ("amount and leg at once", {**_DEPOSIT, "amount": "0", "source_wallet_id": _OTHER},
     ["/amount", "/source_wallet_id"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "pointers"),
    [(body, pointers) for _, body, pointers in BAD_FIELDS],
    ids=[name for name, _, _ in BAD_FIELDS],
)
async def test_a_bad_field_is_pointed_at(
    api: CheckedApi, body: dict[str, Any], pointers: list[str]
) -> None:
    answer = await api.submit(body)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == pointers


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"description": "\\ud800"', "/description"),
        (b'{"metadata": {"a": "\\udfff"}', "/metadata"),
        (b'{"metadata": {"\\udfff": 1}', "/metadata"),
        (b'{"metadata": {"a": 1e400}', "/metadata"),
        (b'{"metadata": {"a": 123456789012345678901234567890}', "/metadata"),
        (b'{"metadata": {"a": 0.1000000000000000055}', "/metadata"),
        (b'{"metadata": {"a": 9007199254740993.0}', "/metadata"),
        (b'{"metadata": {"a": 1e-400}', "/metadata"),
        (b'{"metadata": {"a": 18446744073709551616}', "/metadata"),
        (b'{"metadata": ' + b'{"a":' * 17 + b"1" + b"}" * 17, "/metadata"),
        (b'{"metadata": {"a": [' + b"1," * 255 + b"1]}", "/metadata"),
    ],
    ids=[
        "text",
        "metadata",
        "metadata key",
        "huge number",
        "long integer",
        "many digits",
        "integer with a point",
        "vanishing number",
        "65 bits",
        "deep",
        "many values",
    ],
)
async def test_what_cannot_be_stored_is_pointed_at(
    api: CheckedApi, body: bytes, pointer: str
) -> None:
    rest = orjson.dumps({name: _DEPOSIT[name] for name in _DEPOSIT})[1:]
    answer = await _send(api, body + b"," + rest)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == [pointer]


@pytest.mark.parametrize("name", [b'"\\ud800"', b'"a\\u0000b"', b'""'])
async def test_an_unknown_field_of_any_name_is_refused(api: CheckedApi, name: bytes) -> None:
    single = await _send(api, orjson.dumps(_DEPOSIT)[:-1] + b"," + name + b":1}")
    batch = await api.call(
        "POST", "/v1/transactions/batch", data=b'{"transactions":[{}],' + name + b":1}"
    )

    assert [single.code, batch.code] == ["validation_failed", "validation_failed"]


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's advice to its clients
async def test_a_body_of_a_mebibyte_is_read_and_one_byte_more_is_too_large(
    api: CheckedApi,
) -> None:
    largest = await _send(api, b"{" + b" " * (_MIB - 2) + b"}")
    larger = await _send(api, b"{" + b" " * (_MIB - 1) + b"}")

    assert (largest.status, largest.code) == (422, "validation_failed")
    assert (larger.status, larger.code) == (413, "body_too_large")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/json; charset=iso-8859-1",
        "application/jsonp",
        "nonsense",
    ],
)
async def test_another_content_type_is_refused(api: CheckedApi, content_type: str) -> None:
    answer = await _send(api, orjson.dumps(_DEPOSIT), **{"Content-Type": content_type})

    assert (answer.status, answer.code) == (415, "unsupported_media_type")


async def test_json_may_name_its_charset(api: CheckedApi) -> None:
    kind = "application/json; charset=UTF-8"
    answer = await _send(api, orjson.dumps(_DEPOSIT), **{"Content-Type": kind})

    assert answer.status == 202


async def test_a_body_that_is_not_compressed_as_it_says_is_the_client_s_fault(
    make_client: MakeClient,
) -> None:
    # A client of its own: the server may well close the connection.
    api = await make_client()
    answer = await _send(api, orjson.dumps(_DEPOSIT), **{"Content-Encoding": "gzip"})

    assert 400 <= answer.status < 500


_BAD_WALLETS: list[tuple[str, dict[str, Any], str]] = [
    ("no currency", {}, "/currency"),
    ("unknown currency", {"currency": "ABC"}, "/currency"),
    ("unknown field", {"currency": "USD", "balance": "1"}, "/balance"),
    ("negative overdraft", {"currency": "USD", "overdraft_limit": "-1"}, "/overdraft_limit"),
    ("negative number", {"currency": "USD", "overdraft_limit": -1}, "/overdraft_limit"),
    ("too many decimals", {"currency": "JPY", "overdraft_limit": "0.5"}, "/overdraft_limit"),
    ("beyond 64 bits", {"currency": "USD", "overdraft_limit": "9" * 20}, "/overdraft_limit"),
    ("empty owner", {"currency": "USD", "owner_id": ""}, "/owner_id"),
    ("owner too long", {"currency": "USD", "owner_id": "x" * 256}, "/owner_id"),
    ("owner with NUL", {"currency": "USD", "owner_id": "\x00"}, "/owner_id"),
    ("unknown kind", {"currency": "USD", "kind": "house"}, "/kind"),
    ("kind that is made by itself", {"currency": "USD", "kind": "external"}, "/kind"),
    ("null for a kind", {"currency": "USD", "kind": None}, "/kind"),
    (
        "limit of a wallet that has none",
        {"currency": "USD", "kind": "internal", "overdraft_limit": "0"},
        "/overdraft_limit",
    ),
    ("null for a limit", {"currency": "USD", "overdraft_limit": None}, "/overdraft_limit"),
    ("null for metadata", {"currency": "USD", "metadata": None}, "/metadata"),
    ("null for a currency", {"currency": None}, "/currency"),
    ("owner of another kind", {"currency": "USD", "owner_id": 1}, "/owner_id"),
    ("metadata too large", {"currency": "USD", "metadata": {"a": "x" * 5000}}, "/metadata"),
]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [(body, pointer) for _, body, pointer in _BAD_WALLETS],
    ids=[name for name, _, _ in _BAD_WALLETS],
)
async def test_a_bad_wallet_is_not_created(
    api: CheckedApi, body: dict[str, Any], pointer: str
) -> None:
    answer = await api.call("POST", "/v1/wallets", json=body)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == [pointer]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"status": "OPEN"}, "/status"),
        ({"overdraft_limit": "0.001"}, "/overdraft_limit"),
        ({"currency": "EUR"}, "/currency"),
        ({"kind": "internal"}, "/kind"),
        ({"metadata": "x"}, "/metadata"),
        ({"metadata": {"a": {"b": "\x00"}}}, "/metadata"),
        ({"metadata": None}, "/metadata"),
        ({"status": None}, "/status"),
        ({"overdraft_limit": None, "status": "ACTIVE"}, "/overdraft_limit"),
    ],
)
async def test_a_bad_change_is_refused(
    api: CheckedApi, wallet: str, body: dict[str, Any], pointer: str
) -> None:
    answer = await api.call("PATCH", f"/v1/wallets/{wallet}", json=body)

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == [pointer]


async def test_a_currency_s_outside_wallet_cannot_be_named_or_changed(
    api: CheckedApi, wallet: str
) -> None:
    outside = str(external_wallet_id("USD"))
    paid_in = await api.submit(transfer(outside, wallet, "1.00"))
    paid_out = await api.submit(transfer(wallet, outside, "1.00"))
    changed = await api.call("PATCH", f"/v1/wallets/{outside}", json={"status": "FROZEN"})
    deleted = await api.call("DELETE", f"/v1/wallets/{outside}")
    read = await api.get(f"/v1/wallets/{outside}")

    assert [paid_in.json["status"], paid_out.json["status"]] == ["FAILED", "FAILED"]
    assert paid_in.json["failure"]["code"] == "not_permitted"
    assert paid_out.json["failure"]["code"] == "not_permitted"
    assert (changed.status, changed.code) == (403, "not_permitted")
    assert (deleted.status, deleted.code) == (403, "not_permitted")
    assert (read.json["kind"], read.json["deleted_at"]) == ("external", None)


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_items(api: CheckedApi, count: int) -> None:
    items = [{**_DEPOSIT, "idempotency_key": uuid4().hex} for _ in range(count)]
    answer = await api.call("POST", "/v1/transactions/batch", json={"transactions": items})

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == ["/transactions"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/transactions"),
        ([], ""),
        ({"transactions": {}}, "/transactions"),
        ({"transactions": [{}], "more": 1}, "/more"),
        ({"transactions": [{}], "a/b": 1}, "/a~1b"),
    ],
)
async def test_a_batch_that_is_no_list_fails_as_a_whole(
    api: CheckedApi, body: Any, pointer: str
) -> None:
    answer = await api.call("POST", "/v1/transactions/batch", data=orjson.dumps(body))

    assert (answer.status, answer.code) == (422, "validation_failed")
    assert _pointers(answer) == [pointer]
