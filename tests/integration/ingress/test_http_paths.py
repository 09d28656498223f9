"""The two HTTP paths give the same bytes: a header that means nothing chooses the path."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson
import pytest

from contracts.identifiers import external_wallet_id
from contracts.scopes import Reach, Scope
from ingress.http.fast_path.connection import Request, read_request
from tests.integration.ingress.serving import CheckedDoors, new_api_key
from tests.integration.ingress.test_bad_bodies import BAD_FIELDS, NOT_JSON
from tests.integration.ingress.wire import wire_to
from tests.support import deposit, transfer, withdrawal

FAST: Final = ""
AIOHTTP: Final = "TE: trailers\r\n"
"""No header that the fast path serves, and none that changes an answer."""

# What differs between any two answers.
_VARYING: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f-]{27}|TXN-[A-Z2-7]{26}|[0-9a-f]{32}|[0-9T:.-]{26}Z|Date: [^\r]*|key-\w+"
)
_FRESH: Final = "Idempotency-Key: <fresh>"
_JSON: Final = "Content-Type: application/json"
_BEARER: Final = "Authorization: Bearer <token>"
_TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Case(NamedTuple):
    """A request and the status of its answer; `<word>` is replaced by what is known by then."""

    name: str
    status: int
    body: bytes | None
    lines: tuple[str, ...] = (_BEARER, _JSON, _FRESH)
    path: str = "/v1/transactions"
    is_plain: bool = True
    """Whether the fast path reads it; if not, it has to be handed over with nothing lost."""
    is_same: bool = False
    """Whether both answers are about one transaction: then no byte of their bodies differs."""


def _submit(name: str, status: int, body: object, *more: str, **changed: Any) -> Case:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Case(name, status, content, (_BEARER, _JSON, _FRESH, *more), **changed)


def _keyed(name: str, status: int, body: object, *more: str, **changed: Any) -> Case:
    return Case(name, status, orjson.dumps(body), (_BEARER, _JSON, *more), **changed)


def _read(name: str, status: int, sent_id: str, *more: str, **changed: Any) -> Case:
    lines = (_BEARER, *more)
    return Case(name, status, None, lines, f"/v1/transactions/{sent_id}", **changed)


def _wallet(name: str, status: int, sent_id: str, *more: str, **changed: Any) -> Case:
    return Case(name, status, None, (_BEARER, *more), f"/v1/wallets/{sent_id}", **changed)


_DEPOSIT: Final = deposit("<wallet>", "1.00")
_MOVED: Final = transfer("<funded>", "<empty>", "10.00")
"""Between wallets that each request has for itself: their entries are the first ones."""
_REPLAYED: Final = deposit("<wallet>", "3.00")
_KEPT: Final = {"is_same": True}
_TOLD_APART: Final = {"is_plain": False}

_NEW: Final = [
    _submit("deposit", 202, _DEPOSIT),
    _submit("withdrawal", 202, withdrawal("<wallet>", "1.00")),
    _submit("transfer", 202, transfer("<poor>", "<wallet>", "1.00")),
    _submit("any text", 202, {**_DEPOSIT, "description": 'a "quoted" naïve text \\ with \u2028'}),
    _submit("metadata", 202, {**_DEPOSIT, "metadata": {"b": 1, "a": [1.50, None, {"ö": True}]}}),
    _submit("a number", 202, {**_DEPOSIT, "amount": 7}),
    _submit("a short amount", 202, {**_DEPOSIT, "amount": "7.5"}),
    _submit("a key of null", 202, {**_DEPOSIT, "idempotency_key": None}),
    _submit("an unknown wallet", 202, deposit(str(uuid4()), "1.00")),
    _submit("a request id", 202, _DEPOSIT, "X-Request-Id: mine-1"),
    _submit("a wrong request id", 202, _DEPOSIT, "X-Request-Id: not mine"),
    _submit("a trace", 202, _DEPOSIT, f"traceparent: {_TRACE}"),
    _submit("a wrong trace", 202, _DEPOSIT, "traceparent: 00-0-0-01"),
    _submit("spaces around", 202, b" \n" + orjson.dumps(_DEPOSIT) + b"\t"),
]
_NOBODY: Final = "0199a1f2-6c1e-7d40-8001-5f2d9c7be311"
_HOLD: Final = {
    "type": "hold",
    "source_wallet_id": "<wallet>",
    "amount": "1.00",
    "currency": "USD",
    "expires_in_s": 60,
}
_JOURNAL: Final = {
    "type": "journal",
    "legs": [
        {"wallet_id": "<funded>", "amount": "-10.00", "currency": "USD"},
        {"wallet_id": "<empty>", "amount": "9.00", "currency": "USD"},
        {"wallet_id": "<empty>", "amount": "1.00", "currency": "USD"},
    ],
}
_TERMS: Final = [
    _submit("a hold", 202, _HOLD),
    _submit("a hold in time", 200, {**_HOLD, "source_wallet_id": "<poor>"}, "Prefer: wait=20"),
    _submit("a journal", 202, _JOURNAL),
    _submit("a journal in time", 200, _JOURNAL, "Prefer: wait=20"),
    _submit("a capture of nothing", 202, {"type": "capture", "hold_id": _NOBODY}),
    _submit("a capture of no hold", 202, {"type": "capture", "hold_id": "<completed>"}),
    _submit("a release", 200, {"type": "release", "hold_id": _NOBODY}, "Prefer: wait=20"),
    _submit("a reversal", 202, {"type": "reversal", "reverses": "<failed>"}),
    _submit(
        "too many decimals", 422, {"type": "reversal", "reverses": "<failed>", "amount": "1.001"}
    ),
    _submit("force", 202, {"type": "reversal", "reverses": "<failed>", "force": True}),
    _submit(
        "a condition", 202, {**_DEPOSIT, "conditions": [{"wallet_id": "<poor>", "version": 9}]}
    ),
    _submit(
        "too late", 200, {**_DEPOSIT, "valid_until": "2026-01-01T00:00:00Z"}, "Prefer: wait=20"
    ),
    _submit("later", 202, {**_DEPOSIT, "execute_at": "<later>"}),
    _submit("later, with a wait", 202, {**_DEPOSIT, "execute_at": "<later>"}, "Prefer: wait=1"),
    _submit("much later", 422, {**_DEPOSIT, "execute_at": "2100-01-01T00:00:00Z"}),
    _keyed("replay", 200, {**_HOLD, "amount": "2.00"}, "Idempotency-Key: <held>", **_KEPT),
    _keyed("conflict", 422, {**_HOLD, "amount": "3.00"}, "Idempotency-Key: <held>"),
]
_WAITS: Final = [
    _submit("completed in time", 200, _MOVED, "Prefer: wait=20"),
    _submit("failed in time", 200, transfer("<poor>", "<wallet>", "1.00"), "Prefer: wait=20"),
    _submit("a wait of zero", 202, _DEPOSIT, "Prefer: wait=0"),
    _submit("a wait that is no number", 202, _DEPOSIT, "Prefer: wait=soon"),
    _submit("one preference of two", 200, _MOVED, "Prefer: respond-async, wait=20"),
    _submit("two lines", 200, _MOVED, "Prefer: a", "Prefer: wait=20", **_TOLD_APART),
    _read("an end that has come", 200, "<completed>", "Prefer: wait=20", **_KEPT),
    _read("a wait for nothing", 404, str(uuid4()), "Prefer: wait=20"),
]
_KEYS: Final = [
    _keyed("replay", 200, _REPLAYED, "Idempotency-Key: <used>", **_KEPT),
    _keyed("replay by body", 200, {**_REPLAYED, "idempotency_key": "<used>"}, **_KEPT),
    _keyed(
        "replay with a wait", 200, _REPLAYED, "Idempotency-Key: <used>", "Prefer: wait=20", **_KEPT
    ),
    _keyed("conflict", 422, deposit("<wallet>", "3.01"), "Idempotency-Key: <used>"),
    _keyed("key in the body", 202, {**_DEPOSIT, "idempotency_key": "<fresh>"}),
    _keyed(
        "twice the same",
        202,
        {**_DEPOSIT, "idempotency_key": "<fresh>"},
        "Idempotency-Key: <fresh>",
    ),
    _keyed("two keys", 400, {**_DEPOSIT, "idempotency_key": "k-2"}, "Idempotency-Key: k-1"),
    _keyed("a key that is no text", 422, {**_DEPOSIT, "idempotency_key": 7}),
    _keyed("no key", 400, _DEPOSIT),
    _keyed("an empty key", 400, _DEPOSIT, "Idempotency-Key:"),
    _keyed("an empty key in the body", 400, {**_DEPOSIT, "idempotency_key": ""}),
    _keyed("two words", 400, _DEPOSIT, "Idempotency-Key: two words"),
    _keyed("the longest key", 202, _DEPOSIT, f"Idempotency-Key: <fresh>{'~' * 219}"),
    _keyed("a key too long", 400, _DEPOSIT, f"Idempotency-Key: {'k' * 256}"),
    _keyed("other letters", 202, _DEPOSIT, "IDEMPOTENCY-KEY: <fresh>"),
    _keyed("two lines", 400, _DEPOSIT, "Idempotency-Key: a", "Idempotency-Key: b", **_TOLD_APART),
]
_MEDIA_TYPES: Final = [
    Case(line or "none", status, orjson.dumps(_DEPOSIT), (_BEARER, _FRESH, *filter(None, (line,))))
    for line, status in [
        ("Content-Type: Application/JSON", 202),
        ("content-type:application/json ; charset=UTF-8", 202),
        ('Content-Type: application/json;charset="utf-8"', 202),
        ("Content-Type: application/merge-patch+json", 202),
        ("Content-Type: application/json; charset=iso-8859-1", 415),
        ("Content-Type: text/plain", 415),
        ("Content-Type: nonsense", 415),
        ("", 415),
    ]
]
_CLIENTS: Final = [
    case
    for line, status in [
        (None, 401),
        ("Authorization:", 401),
        ("Authorization: Bearer", 401),
        ("Authorization: Bearer ack_wrong", 401),
        ("Authorization: Basic dXNlcjpwYXNz", 401),
        ("Authorization: Bearer <reader>", 403),
    ]
    for case in (
        Case(f"submit, {line}", status, b"{", (_JSON, _FRESH, *filter(None, (line,)))),
        Case(
            f"read, {line}",
            status,
            None,
            tuple(filter(None, (line,))),
            f"/v1/transactions/{'0' * 36}",
        ),
    )
]
_READS: Final = [
    _read("completed", 200, "<completed>", **_KEPT),
    _read("failed", 200, "<failed>", **_KEPT),
    _read("unknown", 404, str(uuid4())),
    _read("nearly an id", 400, "-" * 36),
    _read("no id", 400, "x"),
    _read("a parameter", 400, "<completed>?more=1"),
    _read("a parameter with an escape", 400, "<completed>?more=%31", **_TOLD_APART),
    _read("other letters", 200, "<COMPLETED>", **_KEPT),
]
_ANY_VERSION: Final = "If-None-Match: *"
_WALLETS: Final = [
    _wallet("as it is", 200, "<poor>", **_KEPT),
    _wallet("of the world outside", 200, "<outside>", **_KEPT),
    _wallet("unknown", 404, str(uuid4())),
    _wallet("nearly an id", 400, "-" * 36),
    _wallet("no id", 400, "x"),
    _wallet("a parameter", 400, "<poor>?more=1"),
    _wallet("other letters", 200, "<POOR>", **_KEPT),
    _wallet("a wait", 200, "<poor>", "Prefer: wait=20", **_KEPT),
    _wallet("a version that the client has", 304, "<poor>", _ANY_VERSION),
    _wallet("a version that nobody has", 200, "<poor>", 'If-None-Match: "0-0"', **_KEPT),
    _wallet("a version that is none", 400, "<poor>", "If-None-Match: 0"),
    _wallet("its entries", 200, "<history>/entries", **_KEPT),
    _wallet("a page of them", 200, "<history>/entries?limit=2", **_KEPT),
    _wallet("all of them", 200, "<history>/entries?limit=3", **_KEPT),
    _wallet("the next page", 200, "<history>/entries?limit=2&cursor=<cursor>", **_KEPT),
    _wallet("a cursor first", 200, "<history>/entries?cursor=<cursor>&limit=2", **_KEPT),
    _wallet("a cursor alone", 200, "<history>/entries?cursor=<cursor>", **_KEPT),
    _wallet("a cursor of another wallet", 400, "<poor>/entries?cursor=<cursor>"),
    _wallet("a cursor that is none", 400, "<history>/entries?cursor=abc"),
    _wallet("no entries asked for", 400, "<history>/entries?limit=0"),
    _wallet("too many of them", 400, "<history>/entries?limit=201"),
    _wallet("a limit in many digits", 400, "<history>/entries?limit=0000000002"),
    _wallet("a limit that is none", 400, "<history>/entries?limit=few"),
    _wallet("two limits", 400, "<history>/entries?limit=2&limit=2"),
    _wallet("entries of one type", 200, "<history>/entries?type=deposit", **_KEPT),
    _wallet("entries of no wallet", 404, f"{uuid4()}/entries"),
    _wallet("entries of nearly an id", 400, f"{'-' * 36}/entries"),
    _wallet("no entries", 200, "<unused>/entries", **_KEPT),
    *(
        Case(name + path, status, None, tuple(filter(None, (line,))), f"/v1/wallets/<poor>{path}")
        for path in ("", "/entries")
        for name, status, line in [
            ("without a key", 401, ""),
            ("without the scope", 403, "Authorization: Bearer <submitter>"),
            ("of another client", 404, "Authorization: Bearer <stranger>"),
        ]
    ),
]
_BODIES: Final = [
    *(_submit(repr(body[:24]), 400, body) for body in NOT_JSON if len(body) < 64_000),
    *(_submit(name, 422, body) for name, body, _ in BAD_FIELDS),
    *(_submit(repr(body), 422, body) for body in (b"[]", b"null", b'"text"', b"1", b"{}")),
    _submit("a lone surrogate", 422, b'{"description": "\\ud800"}'),
]
_CASES: Final = {
    "new": _NEW,
    "terms": _TERMS,
    "wait": _WAITS,
    "key": _KEYS,
    "media type": _MEDIA_TYPES,
    "client": _CLIENTS,
    "read": _READS,
    "wallet": _WALLETS,
    "body": _BODIES,
}


@pytest.fixture(scope="module")
async def words(doors: CheckedDoors, wallet: str) -> Mapping[str, str]:
    """What the cases name: wallets, tokens, and transactions that have ended."""
    api, used = doors.api, f"key-{uuid4().hex}"
    poor = await api.create_wallet()
    completed = await api.submit(_filled(_REPLAYED, wallet=wallet), key=used)
    failed = await api.submit(transfer(poor, wallet, "5.00"))
    history, unused = await api.create_wallet(), await api.create_wallet()
    for _ in range(3):
        await api.deposit(history, "1.00")
    page = await api.get(f"/v1/wallets/{history}/entries", limit="2")
    held = f"key-{uuid4().hex}"
    await api.submit(_filled({**_HOLD, "amount": "2.00"}, wallet=wallet), key=held)
    assert [completed.json["status"], failed.json["status"]] == ["COMPLETED", "FAILED"]
    return {
        "wallet": wallet,
        "poor": poor,
        "POOR": poor.upper(),
        "used": used,
        "completed": completed.json["id"],
        "COMPLETED": completed.json["id"].upper(),
        "failed": failed.json["id"],
        "held": held,
        "later": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        "token": doors.system.api_key,
        "reader": await new_api_key(doors.database_url, "reader", [Scope.WALLETS_READ]),
        "submitter": await new_api_key(doors.database_url, "w", [Scope.TRANSACTIONS_WRITE]),
        "stranger": await new_api_key(
            doors.database_url, "s", [Scope.WALLETS_READ], reach=Reach.OWN
        ),
        "history": history,
        "cursor": page.json["next_cursor"],
        "unused": unused,
        "outside": str(external_wallet_id("USD")),
    }


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{kind}: {case.name}")
        for kind, cases in _CASES.items()
        for case in cases
    ],
)
async def test_both_paths_answer_alike(
    doors: CheckedDoors, words: Mapping[str, str], case: Case
) -> None:
    answers = []
    for path in (FAST, AIOHTTP):
        own = {"fresh": f"key-{uuid4().hex}"}
        if b"<funded>" in (case.body or b""):
            own["funded"], own["empty"] = [await doors.api.create_wallet() for _ in range(2)]
            await doors.api.deposit(own["funded"], "10.00")
        request = _request(case, {**words, **own}, path)
        is_read_by_the_fast_path = isinstance(read_request(request), Request)
        assert is_read_by_the_fast_path == (case.is_plain and path == FAST)
        async with wire_to(doors) as wire:
            answers.append(await wire.ask(request))

    fast, aiohttp = answers
    assert fast.startswith(b"HTTP/1.1 %d " % case.status), fast
    assert _shape(fast) == _shape(aiohttp)
    if case.is_same:
        assert _body(fast) == _body(aiohttp)


async def test_one_connection_serves_many_requests_and_then_the_other_paths(
    doors: CheckedDoors, words: Mapping[str, str]
) -> None:
    async with wire_to(doors) as wire:
        for path in (FAST, FAST, AIOHTTP, FAST):
            known = {**words, "fresh": f"key-{uuid4().hex}"}
            answer = await wire.ask(_request(_NEW[0], known, path))
            assert answer.startswith(b"HTTP/1.1 202 ")
            made = orjson.loads(_body(answer))["id"]
            read = await wire.ask(_request(_read("made", 200, made), known, path))
            assert orjson.loads(_body(read))["id"] == made


def _filled(body: Mapping[str, object], **words: str) -> Mapping[str, object]:
    filled: Mapping[str, object] = orjson.loads(_replaced(orjson.dumps(body).decode(), words))
    return filled


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"<{word}>", value)
    return text


def _request(case: Case, words: Mapping[str, str], path: str) -> bytes:
    body = case.body
    for word, value in words.items():
        body = None if body is None else body.replace(f"<{word}>".encode(), value.encode())
    lines = [
        f"{'GET' if body is None else 'POST'} {case.path} HTTP/1.1",
        "Host: bank",
        *([] if body is None else [f"Content-Length: {len(body)}"]),
        *case.lines,
    ]
    head = _replaced("\r\n".join(lines), words) + "\r\n" + path + "\r\n"
    return head.encode() + (body or b"")


def _shape(answer: bytes) -> bytes:
    return _VARYING.sub(b"~", answer)


def _body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]
