"""Every answer held against the published document: its schema, its headers, its problems."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from yarl import URL

from contracts.problems import PROBLEMS, ProblemCode
from tests.support import Answer, Api

_ROOT: Final = Path(__file__).resolve().parents[3]
DOCUMENT: Final = orjson.loads((_ROOT / "contracts/documents/openapi.json").read_bytes())
_PATHS: Final = {
    # A path without a variable comes first: '/v1/transactions/batch' is no transaction.
    path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$")
    for path in sorted(DOCUMENT["paths"], key=lambda path: "{" in path)
}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_FRESH_ID: Final = re.compile(r"[0-9a-f]{32}")
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def check(answer: Answer, method: str, path: str) -> None:
    """Assert that an answer is one that the document announces for this call."""
    assert _SANE_ID.fullmatch(answer.headers["X-Request-Id"]), answer.headers
    responses = _responses(method, path)
    if answer.status >= 400:
        check_problem(answer, path)
    if responses is None:
        return
    assert str(answer.status) in responses, (method, path, answer.status, answer.body[:300])
    content = responses[str(answer.status)].get("content", {})
    content_type = answer.headers.get("Content-Type", "").partition(";")[0]
    assert not content or content_type in content, (method, path, content_type)
    if content_type.endswith("json"):
        _check_schema(answer.json, content[content_type].get("schema", {}))


def check_problem(answer: Answer, path: str) -> None:
    """Assert that a refusal is a whole problem: RFC 9457 with our members."""
    if path.endswith("/readyz"):
        return
    assert answer.headers["Content-Type"] == "application/problem+json", answer.headers
    problem = answer.json
    _check_schema(problem, _PROBLEM)
    kind = PROBLEMS[ProblemCode(problem["code"])]
    assert (problem["status"], problem["title"]) == (kind.status, kind.title)
    assert problem["status"] == answer.status
    # A URI reference (RFC 9457): what is not ASCII stays escaped.
    assert problem["instance"] == URL(path).raw_path
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert problem["type"] == f"/docs#problem-{problem['code'].replace('_', '-')}"
    assert problem["detail"]


def is_fresh_request_id(text: str) -> bool:
    """Whether a request id is one that the server made: a trace id."""
    return _FRESH_ID.fullmatch(text) is not None


def _responses(method: str, path: str) -> Mapping[str, Any] | None:
    for template, pattern in _PATHS.items():
        if pattern.match(path.partition("?")[0]):
            operation = DOCUMENT["paths"][template].get(method.lower())
            return None if operation is None else cast("Mapping[str, Any]", operation["responses"])
    return None


def _check_schema(value: Any, schema: Mapping[str, Any]) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert errors == []
    _check_members(value, schema)


def _check_members(value: Any, schema: Mapping[str, Any]) -> None:
    """Assert that an object has no member that the document does not name."""
    if "$ref" in schema:
        _check_members(value, DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    elif "properties" in schema and isinstance(value, dict):
        assert set(value) == set(schema["properties"])
        for name, member in schema["properties"].items():
            _check_members(value[name], member)
    elif "items" in schema and isinstance(value, list):
        for item in value:
            _check_members(item, schema["items"])


class CheckedApi(Api):
    """A client that holds every answer against the document."""

    def check(self, answer: Answer, method: str, path: str) -> None:
        """Assert that the document announces it."""
        check(answer, method, path)
