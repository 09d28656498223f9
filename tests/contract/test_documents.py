"""The published documents: current, valid, complete, and true to what the server renders."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from contracts import topology
from contracts.identifiers import event_id, external_wallet_id
from contracts.messages import DeadLetterReason, decode_message
from contracts.operations import OPERATIONS, ROUTING_PROBLEMS, Operation
from contracts.problems import PROBLEMS, Problem, ProblemCode
from contracts.representations import examples
from contracts.representations.event import render_event
from contracts.representations.transaction import render_transaction
from contracts.representations.wallet import render_wallet, render_wallet_entry
from tools.documents import ASYNCAPI, COLLECTION, DIRECTORY, OPENAPI, build_documents, text_of
from tools.documents.checking import faults_of
from tools.documents.rendering import render_pages

ROOT = Path(__file__).parents[2]
SURFACE = {
    ("POST", "/v1/wallets"),
    ("GET", "/v1/wallets"),
    ("GET", "/v1/wallets/{wallet_id}"),
    ("PATCH", "/v1/wallets/{wallet_id}"),
    ("DELETE", "/v1/wallets/{wallet_id}"),
    ("GET", "/v1/wallets/{wallet_id}/entries"),
    ("GET", "/v1/wallets/{wallet_id}/holds"),
    ("GET", "/v1/wallets/{wallet_id}/balance"),
    ("GET", "/v1/seals"),
    ("GET", "/v1/seals/latest"),
    ("GET", "/v1/integrity"),
    ("GET", "/v1/integrity/findings"),
    ("POST", "/v1/integrity/verifications"),
    ("GET", "/v1/transactions/{transaction_id}/processing"),
    ("GET", "/v1/audit"),
    ("POST", "/v1/transactions"),
    ("POST", "/v1/transactions/batch"),
    ("POST", "/v1/transactions/preview"),
    ("GET", "/v1/transactions/{transaction_id}"),
    ("GET", "/v1/transactions"),
    ("GET", "/v1/events"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks"),
    ("GET", "/v1/webhooks/{webhook_id}"),
    ("PATCH", "/v1/webhooks/{webhook_id}"),
    ("DELETE", "/v1/webhooks/{webhook_id}"),
    ("POST", "/v1/webhooks/{webhook_id}/secret/rotate"),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"),
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"),
    ("POST", "/v1/webhooks/{webhook_id}/recover"),
    ("POST", "/v1/transactions/{transaction_id}/reverse"),
    ("POST", "/v1/transactions/{transaction_id}/cancel"),
    ("GET", "/v1/assets"),
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/confirm"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/logout"),
    ("POST", "/v1/auth/password/change"),
    ("POST", "/v1/auth/password/forgot"),
    ("POST", "/v1/auth/password/reset"),
    ("GET", "/v1/auth/sessions"),
    ("DELETE", "/v1/auth/sessions/{session_id}"),
    ("GET", "/v1/users/me"),
    ("PATCH", "/v1/users/me"),
    ("DELETE", "/v1/users/me"),
    ("GET", "/v1/users/me/logins"),
    ("GET", "/v1/users/me/notifications"),
    ("POST", "/v1/users/me/notifications/{notification_id}/read"),
    ("GET", "/v1/users"),
    ("GET", "/v1/users/{user_id}"),
    ("PATCH", "/v1/users/{user_id}"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/v1/dead-letters"),
    ("GET", "/v1/dead-letters/groups"),
    ("GET", "/v1/dead-letters/summary"),
    ("GET", "/v1/dead-letters/{dead_letter_id}"),
    ("POST", "/v1/dead-letters/{dead_letter_id}/replay"),
    ("POST", "/v1/dead-letters/{dead_letter_id}/discard"),
    ("POST", "/v1/dead-letters/replay"),
    ("POST", "/v1/dead-letters/discard"),
    ("GET", "/v1/reviews"),
    ("POST", "/v1/reviews/{review_id}/approve"),
    ("POST", "/v1/reviews/{review_id}/refuse"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/docs"),
    ("GET", "/docs/events"),
    ("GET", "/docs/collection.json"),
    ("GET", "/openapi.json"),
    ("GET", "/asyncapi.json"),
}
SIGNING_IN = {
    "register_user",
    "confirm_user",
    "log_in",
    "refresh_tokens",
    "request_password_reset",
    "reset_password",
}
"""Calls whose callers have nothing yet that would let them in."""


def stored(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DIRECTORY / name).read_text(encoding="utf-8"))
    return document


def validator_of(document: dict[str, Any], pointer: str) -> Draft202012Validator:
    resource = DRAFT202012.create_resource(document)
    registry = Registry[Any]().with_resource("urn:document", resource)
    return Draft202012Validator(
        {"$ref": f"urn:document#{pointer}"}, registry=registry, format_checker=FormatChecker()
    )


def assert_fits(value: object, *, document: dict[str, Any], pointer: str) -> None:
    faults = [error.message for error in validator_of(document, pointer).iter_errors(value)]
    assert not faults, f"{pointer}: {faults}"


def as_read(rendered: dict[str, Any]) -> Any:
    """Return what a client decodes of an answer."""
    return json.loads(orjson.dumps(rendered))


def pointer_of(*parts: str) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def example_bodies(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every example of a body, with the pointer to the schema that stands beside it."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            here = ("paths", path, method)
            bodies: dict[tuple[str, ...], Any] = {
                ("requestBody",): operation.get("requestBody", {})
            }
            for status, response in operation["responses"].items():
                bodies[("responses", status)] = response
            for place, body in bodies.items():
                for media_type, content in body.get("content", {}).items():
                    pointer = pointer_of(*here, *place, "content", media_type, "schema")
                    if "example" in content:
                        yield pointer, content["example"]
                    for example in content.get("examples", {}).values():
                        yield pointer, example["value"]


@pytest.mark.parametrize("name", [OPENAPI, ASYNCAPI, COLLECTION])
def test_the_committed_document_is_current(name: str) -> None:
    text = (DIRECTORY / name).read_text(encoding="utf-8")
    assert text == text_of(build_documents()[name]), "run `make documents`"
    assert text.endswith("}\n")


@pytest.mark.parametrize("name", [OPENAPI, ASYNCAPI, COLLECTION])
def test_the_committed_document_keeps_its_standard(name: str) -> None:
    assert faults_of(name, stored(name)) == []


def test_a_fault_is_found_in_either_document() -> None:
    openapi = stored(OPENAPI)
    del openapi["info"]["title"]
    asyncapi = stored(ASYNCAPI)
    asyncapi["operations"]["publish_events"]["action"] = "shout"
    assert any("title" in fault for fault in faults_of(OPENAPI, openapi))
    assert any("shout" in fault for fault in faults_of(ASYNCAPI, asyncapi))


def test_a_fault_of_the_collection_is_found() -> None:
    collection = stored(COLLECTION)
    request = collection["item"][0]["item"][0]["request"]
    request["header"].append({"key": "X", "value": "{{no_such_variable}}"})
    request["url"]["path"].append(":wallet_id")
    faults = faults_of(COLLECTION, collection)
    assert any("no_such_variable" in fault for fault in faults)
    assert any("the path and its variables differ" in fault for fault in faults)


def test_the_collection_has_every_call_and_no_secret() -> None:
    collection = stored(COLLECTION)
    requests = [item["request"] for folder in collection["item"] for item in folder["item"]]
    found = {
        (
            request["method"],
            re.sub(r":(\w+)", r"{\1}", "/" + "/".join(request["url"]["path"])),
        )
        for request in requests
    }
    assert found == SURFACE
    variables = {one["key"]: one["value"] for one in collection["variable"]}
    assert variables == {"base_url": "http://localhost:8080", "api_key": ""}
    for request in requests:
        keys = [one for one in request["header"] if one["key"] == "Idempotency-Key"]
        assert all(one["value"] == "{{$guid}}" for one in keys)
        if "body" in request:
            json.loads(request["body"]["raw"])


def test_the_pages_are_current() -> None:
    for path, text in render_pages(asyncapi=build_documents()[ASYNCAPI]).items():
        assert path.read_text(encoding="utf-8") == text, "run `make documents`"


def test_the_check_names_the_stale_file_and_the_way_out(tmp_path: Path) -> None:
    command = (
        "import pathlib, tools.documents.__main__ as m;"
        f"m.DIRECTORY = pathlib.Path({str(tmp_path)!r});"
        "import sys; sys.argv = ['documents', '--check']; sys.exit(m.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "openapi.json is not current: run `make documents`" in done.stderr
    assert not list(tmp_path.iterdir())


def test_two_processes_make_the_same_bytes() -> None:
    program = (
        "import tools.documents as d; [print(d.text_of(x)) for x in d.build_documents().values()]"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_table_serves_exactly_the_calls_of_the_contract() -> None:
    assert {(operation.method, operation.path) for operation in OPERATIONS} == SURFACE
    paths = stored(OPENAPI)["paths"]
    assert {(verb.upper(), path) for path, verbs in paths.items() for verb in verbs} == SURFACE


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.operation_id)
def test_an_operation_is_complete(operation: Operation) -> None:
    assert operation.summary
    assert not operation.summary.endswith(".")
    assert operation.description
    assert any(response.status < 400 for response in operation.responses)
    is_guarded = operation.path.startswith("/v1/") and operation.operation_id not in SIGNING_IN
    assert (operation.scope is not None) == is_guarded
    in_path = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", operation.path))
    assert len(set(operation.problems)) == len(operation.problems)
    needs_key = ProblemCode.UNAUTHENTICATED in operation.problems
    assert needs_key == (operation.scope is not None)
    has_body = ProblemCode.MALFORMED_JSON in operation.problems
    assert has_body == (operation.request is not None)


def test_operation_ids_are_unique() -> None:
    ids = [operation.operation_id for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)


def test_every_problem_belongs_to_a_call_or_to_routing() -> None:
    listed = {code for operation in OPERATIONS for code in operation.problems}
    assert listed | set(ROUTING_PROBLEMS) == set(ProblemCode)
    introduction = stored(OPENAPI)["info"]["description"]
    for code, kind in PROBLEMS.items():
        assert f"| {kind.status} | `{code}` | {kind.title} |" in introduction


def test_every_answer_carries_the_request_id() -> None:
    for verbs in stored(OPENAPI)["paths"].values():
        for operation in verbs.values():
            for response in operation["responses"].values():
                assert "X-Request-Id" in response["headers"]


def test_every_example_fits_its_schema() -> None:
    document = stored(OPENAPI)
    found = list(example_bodies(document))
    assert len(found) > 50
    for pointer, example in found:
        assert_fits(example, document=document, pointer=pointer)


def test_a_wrong_body_does_not_fit() -> None:
    pointer = "/components/schemas/Transaction"
    wrong = {**examples.TRANSACTION, "status": "DONE"}
    assert not validator_of(stored(OPENAPI), pointer).is_valid(wrong)


_ID = "11111111-1111-4111-8111-111111111111"
_MONEY = {"amount": "1.00", "currency": "USD"}


@pytest.mark.parametrize(
    ("name", "body", "is_valid"),
    [
        ("JournalLeg", {"wallet_id": _ID, **_MONEY}, True),
        ("JournalLeg", {"external": True, **_MONEY}, True),
        ("JournalLeg", {"external": True, "wallet_id": None, **_MONEY}, True),
        ("JournalLeg", {"external": True, "wallet_id": _ID, **_MONEY}, False),
        ("JournalLeg", {"external": False, "wallet_id": None, **_MONEY}, False),
        ("JournalLeg", _MONEY, False),
        ("Condition", {"wallet_id": _ID, "version": 0}, True),
        ("Condition", {"wallet_id": _ID, "version": None, "balance_at_most": "1"}, True),
        ("Condition", {"wallet_id": _ID, "version": None}, False),
        ("Condition", {"wallet_id": _ID}, False),
    ],
)
@pytest.mark.parametrize("document", [OPENAPI, ASYNCAPI])
def test_the_document_asks_for_the_same_as_the_model(
    document: str, name: str, body: dict[str, Any], *, is_valid: bool
) -> None:
    pointer = f"/components/schemas/{name}"
    assert validator_of(stored(document), pointer).is_valid(body) is is_valid


@pytest.mark.parametrize("code", list(ProblemCode))
def test_a_problem_is_what_the_model_says(code: ProblemCode) -> None:
    problem = examples.problem_example(code, path="/v1/wallets/{wallet_id}")
    assert Problem.model_validate(problem).model_dump(mode="json") == problem


MOMENT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SOURCE = UUID("0199a1f2-6c1e-7d40-8001-5f2d9c7be311")
DESTINATION = UUID("0199a1f2-7a90-72c8-8001-c84e10d7f0aa")
TRANSACTION = UUID("019aa3b0-41d2-7e14-8001-9b7f02c4d6e8")


def transaction_row(**changes: object) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": TRANSACTION,
        "idempotency_key": "k",
        "submitter": "shop",
        "channel": "amqp",
        "type": "transfer",
        "source_wallet_id": SOURCE,
        "destination_wallet_id": DESTINATION,
        "amount": 1,
        "currency": "KWD",
        "status": "PENDING",
        "failure_code": None,
        "failure_detail": None,
        "description": None,
        "metadata": None,
        "reverses": None,
        "reversed_by": None,
        "has_terms": None,
        "reversals": None,
        "reversed_amount": None,
        "source_sequence": None,
        "destination_sequence": None,
        "source_balance_after": None,
        "destination_balance_after": None,
        "created_at": MOMENT,
        "completed_at": None,
    }
    return row | changes


POSTED = {
    "status": "COMPLETED",
    "source_sequence": 2,
    "source_balance_after": -5,
    "destination_sequence": 1,
    "destination_balance_after": 1,
    "completed_at": MOMENT,
}


@pytest.mark.parametrize(
    "row",
    [
        transaction_row(),
        transaction_row(status="QUARANTINED"),
        transaction_row(**POSTED),
        transaction_row(**POSTED | {"status": "REVERSED"}, reversed_by=SOURCE),
        transaction_row(**POSTED, type="reversal", reverses=SOURCE, metadata='{"a":[1]}'),
        transaction_row(
            **POSTED, type="deposit", source_wallet_id=external_wallet_id("JPY"), currency="JPY"
        ),
        transaction_row(
            status="FAILED",
            failure_code="wallet_not_found",
            failure_detail="x",
            completed_at=MOMENT,
        ),
    ],
    ids=["pending", "quarantined", "completed", "reversed", "reversal", "deposit", "failed"],
)
def test_a_rendered_transaction_fits_the_published_schemas(row: dict[str, Any]) -> None:
    transaction = as_read(render_transaction(row))
    schema = "/components/schemas/Transaction"
    assert_fits(transaction, document=stored(OPENAPI), pointer=schema)
    assert_fits(transaction, document=stored(ASYNCAPI), pointer=schema)
    event = render_event(
        transaction,
        event_id=event_id(SOURCE, TRANSACTION),
        event_type="transaction.completed",
        occurred_at=transaction["created_at"],
    )
    assert_fits(event, document=stored(ASYNCAPI), pointer=f"{schema}Event")


def test_a_rendered_wallet_and_entry_fit_the_published_schemas() -> None:
    wallet = {
        "id": SOURCE,
        "owner_id": None,
        "currency": "JPY",
        "kind": "internal",
        "balance": -7,
        "held": 0,
        "overdraft_limit": 10,
        "status": "FROZEN",
        "version": 3,
        "metadata": None,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "deleted_at": MOMENT,
    }
    entry = {
        "wallet_id": SOURCE,
        "sequence": 3,
        "transaction_id": TRANSACTION,
        "type": "withdrawal",
        "amount": -7,
        "currency": "JPY",
        "balance_after": -7,
        "description": None,
        "created_at": MOMENT,
    }
    openapi = stored(OPENAPI)
    assert_fits(
        as_read(render_wallet(wallet)), document=openapi, pointer="/components/schemas/Wallet"
    )
    assert_fits(
        render_wallet_entry(entry), document=openapi, pointer="/components/schemas/WalletEntry"
    )


def test_the_examples_of_messages_fit_and_decode() -> None:
    document = stored(ASYNCAPI)
    for name, message in document["components"]["messages"].items():
        for example in message.get("examples", []):
            pointer = f"/components/messages/{name}/payload"
            assert_fits(example["payload"], document=document, pointer=pointer)
            if name in {"requested", "requested_batch", "recorded"}:
                decode_message(
                    json.dumps(example["payload"]).encode(),
                    message_type=message["name"],
                    content_type=message["contentType"],
                    user_id="shop",
                )


def test_the_channels_name_the_topology() -> None:
    channels = stored(ASYNCAPI)["channels"]
    bindings = [channel["bindings"]["amqp"] for channel in channels.values() if channel["address"]]
    exchanges = {binding["exchange"]["name"] for binding in bindings if "exchange" in binding}
    names = {binding["queue"]["name"] for binding in bindings if "queue" in binding}
    assert exchanges == {
        topology.TRANSACTIONS_EXCHANGE,
        topology.EVENTS_EXCHANGE,
        topology.EVENT_BUNDLES,
    }
    # The log of events is read over HTTP alone.
    assert names == {queue.name for queue in topology.queues(1)} - {topology.EVENTS_LOG}


def test_the_dead_letter_headers_list_every_reason() -> None:
    headers = stored(ASYNCAPI)["components"]["messages"]["dead_letter"]["headers"]
    assert headers["properties"]["x-ackledger-reason"]["enum"] == list(DeadLetterReason)
