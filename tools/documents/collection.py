"""The collection of calls that Postman (format 2.1) and Bruno import, from the OpenAPI document.

Every call with its parameters, a body of the document's own examples, and a key by `{{$guid}}`
where the call takes one. It holds no secret: `base_url` and `api_key` are variables to be set.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

Json = dict[str, Any]

SCHEMA: Final = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
VARIABLES: Final = {"base_url": "http://localhost:8080", "api_key": ""}
"""To be set by whoever imports it, with what they are at first."""

_PATH_VARIABLE: Final = re.compile(r"{(\w+)}")
_USED: Final = re.compile(r"{{([^}]*)}}")
_KEY_HEADER: Final = "Idempotency-Key"
_KEY_FIELD: Final = "idempotency_key"
_FRESH: Final = "{{$guid}}"
"""A fresh UUID for each time that the request is sent."""


def collection_document(openapi: Json) -> Json:
    """Return the collection of every call of an OpenAPI document, a folder for each of its tags."""
    folders: dict[str, list[Json]] = {tag["name"]: [] for tag in openapi["tags"]}
    for path, method, operation in _operations(openapi):
        folders.setdefault(operation["tags"][0], []).extend(
            _requests(openapi, path, method, operation)
        )
    info = openapi["info"]
    return {
        "info": {
            # The same collection for ever: importing it again replaces the one before.
            "_postman_id": str(uuid5(NAMESPACE_URL, "ackledger/collection")),
            "name": info["title"],
            "version": info["version"],
            "description": info["summary"],
            "schema": SCHEMA,
        },
        "auth": {
            "type": "bearer",
            "bearer": [{"key": "token", "value": "{{api_key}}", "type": "string"}],
        },
        "variable": [
            {"key": name, "value": value, "type": "string"} for name, value in VARIABLES.items()
        ],
        "item": [{"name": name, "item": items} for name, items in folders.items() if items],
    }


def faults_of_collection(document: Json) -> Iterator[str]:
    """Yield what would not work once it is imported."""
    text = json.dumps(document)
    for name in set(_USED.findall(text)) - VARIABLES.keys() - {_FRESH.strip("{}")}:
        yield f"the variable {name} is not defined"
    for folder in document["item"]:
        for item in folder["item"]:
            url = item["request"]["url"]
            if url["raw"].partition("?")[0] != "/".join([*url["host"], *url["path"]]):
                yield f"{item['name']}: the URL and its parts differ"
            if {one[1:] for one in url["path"] if one.startswith(":")} != {
                one["key"] for one in url.get("variable", ())
            }:
                yield f"{item['name']}: the path and its variables differ"


def _operations(openapi: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _requests(openapi: Json, path: str, method: str, operation: Json) -> Iterator[Json]:
    """Yield a request for each example of a body, one for a call without."""
    parameters = [_resolved(openapi, one) for one in operation["parameters"]]
    examples = _examples(operation)
    for summary, body in examples:
        named = f"{operation['summary']}: {summary}" if len(examples) > 1 else operation["summary"]
        request: Json = {
            "method": method,
            "header": _headers(parameters, has_body=body is not None),
            "url": _url(path, parameters),
            "description": operation["description"],
        }
        if body is not None:
            fresh = _with_fresh_keys(body)
            if isinstance(fresh, dict) and _KEY_FIELD in fresh:
                # The header has it.
                del fresh[_KEY_FIELD]
            request["body"] = {
                "mode": "raw",
                "raw": json.dumps(fresh, indent=2, ensure_ascii=False),
                "options": {"raw": {"language": "json"}},
            }
        if not operation["security"]:
            request["auth"] = {"type": "noauth"}
        yield {"name": named, "request": request, "response": []}


def _examples(operation: Json) -> list[tuple[str, Any]]:
    if "requestBody" not in operation:
        return [("", None)]
    [content] = operation["requestBody"]["content"].values()
    return [(one["summary"], one["value"]) for one in content["examples"].values()]


def _with_fresh_keys(body: Any) -> Any:
    """Return a copy of a body in which every idempotency key is a fresh one."""
    if isinstance(body, dict):
        return {
            name: _FRESH if name == _KEY_FIELD else _with_fresh_keys(value)
            for name, value in body.items()
        }
    return [_with_fresh_keys(one) for one in body] if isinstance(body, list) else body


def _headers(parameters: list[Json], *, has_body: bool) -> list[Json]:
    headers = [
        {
            "key": one["name"],
            "value": _FRESH if one["name"] == _KEY_HEADER else _example(one),
            "description": one["description"],
            # What a call can do without is there to be switched on.
            "disabled": one["name"] != _KEY_HEADER,
        }
        for one in parameters
        if one["in"] == "header"
    ]
    content = [{"key": "Content-Type", "value": "application/json"}] if has_body else []
    return [*content, *headers]


def _url(path: str, parameters: list[Json]) -> Json:
    parts = _PATH_VARIABLE.sub(r":\1", path).removeprefix("/").split("/")
    url: Json = {"raw": "/".join(["{{base_url}}", *parts]), "host": ["{{base_url}}"], "path": parts}
    query = [_listed(one) | {"disabled": True} for one in parameters if one["in"] == "query"]
    variables = [_listed(one) for one in parameters if one["in"] == "path"]
    if query:
        url["query"] = query
    if variables:
        url["variable"] = variables
    return url


def _listed(parameter: Json) -> Json:
    return {
        "key": parameter["name"],
        "value": _example(parameter),
        "description": parameter["description"],
    }


def _example(parameter: Json) -> str:
    schema = parameter["schema"]
    for found in (schema.get("examples"), schema.get("enum"), [schema.get("default", "")]):
        if found:
            value = found[0]
            return str(value).lower() if isinstance(value, bool) else str(value)
    return ""


def _resolved(openapi: Json, parameter: Json) -> Json:
    if "$ref" not in parameter:
        return parameter
    found: Json = openapi["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
    return found
