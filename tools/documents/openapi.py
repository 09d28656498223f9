"""The OpenAPI 3.1 document, from the table of operations and the models that it names."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from pydantic import BaseModel

from contracts.operations import OPERATIONS, Operation, Parameter, Response, ResponseHeader
from contracts.operations.parameters import REQUEST_ID
from contracts.operations.shapes import HTML, JSON
from contracts.problems import PROBLEMS, Problem, ProblemCode
from contracts.representations.examples import problem_example
from tools.documents.schemas import Mode, component_schemas, reference
from tools.documents.texts import HEADERS, LICENCE, SUMMARY, TAGS, openapi_introduction

Json = dict[str, Any]

_PROBLEM_JSON: Final = "application/problem+json"
_SECURITY_SCHEME: Final = "api_key"
_RATE_LIMIT: Final = (
    ResponseHeader.RATE_LIMIT,
    ResponseHeader.RATE_LIMIT_POLICY,
    ResponseHeader.RATE_LIMIT_LIMIT,
    ResponseHeader.RATE_LIMIT_REMAINING,
    ResponseHeader.RATE_LIMIT_RESET,
)
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_PROBLEM_HEADERS: Final[dict[int, tuple[ResponseHeader, ...]]] = {
    HTTPStatus.UNAUTHORIZED: (ResponseHeader.WWW_AUTHENTICATE,),
    HTTPStatus.TOO_MANY_REQUESTS: (ResponseHeader.RETRY_AFTER, *_RATE_LIMIT),
    HTTPStatus.SERVICE_UNAVAILABLE: (ResponseHeader.RETRY_AFTER,),
}


def openapi_document(*, release: str, operations: Sequence[Operation] = OPERATIONS) -> Json:
    """Return the document of the operations; `release` is the distribution's version."""
    used_tags = {operation.tag for operation in operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ackledger",
            "version": release,
            "summary": SUMMARY,
            "description": openapi_introduction(),
            "license": LICENCE,
        },
        "tags": [
            {"name": tag.value, "description": text}
            for tag, text in TAGS.items()
            if tag in used_tags
        ],
        "paths": _paths(operations),
        "components": {
            "schemas": component_schemas(list(_models(operations))),
            "headers": {header.value: _header(header) for header in ResponseHeader},
            "parameters": {REQUEST_ID.name: _parameter(REQUEST_ID)},
            "securitySchemes": {
                _SECURITY_SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": (
                        "An API key, made by `ackledger api-keys create`, or a person's access "
                        "token, given by `POST /v1/auth/login`"
                    ),
                }
            },
        },
    }


def _paths(operations: Iterable[Operation]) -> Json:
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return paths


def _models(operations: Iterable[Operation]) -> Iterable[tuple[type[BaseModel], Mode]]:
    yield Problem, "serialization"
    for operation in operations:
        if operation.request is not None:
            yield operation.request, "validation"
        for response in operation.responses:
            if response.model is not None:
                yield response.model, "serialization"


def _operation(operation: Operation) -> Json:
    rights = [sorted(one) for one in operation.rights]
    named = ", or ".join(" and ".join(f"`{scope}`" for scope in one) for one in rights)
    needs = f"\n\nScope: {named}." if rights else "\n\nNo API key is needed."
    document: Json = {
        "operationId": operation.operation_id,
        "tags": [operation.tag.value],
        "summary": operation.summary,
        "description": operation.description + needs,
        "security": [{_SECURITY_SCHEME: [scope.value for scope in one]} for one in rights],
        "parameters": [
            *(_parameter(parameter) for parameter in operation.parameters),
            {"$ref": f"#/components/parameters/{REQUEST_ID.name}"},
        ],
    }
    if operation.request is not None:
        document["requestBody"] = {
            "required": True,
            "content": {
                JSON: {
                    "schema": reference(operation.request),
                    "examples": dict(operation.request_examples or {}),
                }
            },
        }
    limits = _RATE_LIMIT if rights else ()
    answers = {response.status: _response(response, limits) for response in operation.responses}
    answers |= _problem_responses(operation)
    document["responses"] = {str(status): answers[status] for status in sorted(answers)}
    return document


def _parameter(parameter: Parameter) -> Json:
    document: Json = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.is_required,
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        # Not `example`: the page would send it with every call that is tried.
        document["schema"]["examples"] = [parameter.example]
    return document


def _response(response: Response, limits: tuple[ResponseHeader, ...]) -> Json:
    document: Json = {
        "description": response.description,
        "headers": _headers((*response.headers, *limits)),
    }
    if response.status in _WITHOUT_BODY:
        return document
    schema: Json = {"type": "string"} if response.media_type == HTML else {"type": "object"}
    content = {"schema": schema if response.model is None else reference(response.model)}
    if response.example is not None:
        content["example"] = dict(response.example)
    document["content"] = {response.media_type: content} | {
        media_type: {"schema": {"type": "string"}, "example": example}
        for media_type, example in response.also_as.items()
    }
    return document


def _problem_responses(operation: Operation) -> dict[int, Json]:
    codes = sorted(set(operation.problems), key=lambda code: (PROBLEMS[code].status, code.value))
    return {
        status: _problem_response(operation, status, list(group))
        for status, group in groupby(codes, key=lambda code: PROBLEMS[code].status)
    }


def _problem_response(operation: Operation, status: int, codes: list[ProblemCode]) -> Json:
    return {
        "description": "; ".join(f"{PROBLEMS[code].title} (`{code}`)" for code in codes),
        "headers": _headers(_PROBLEM_HEADERS.get(status, ())),
        "content": {
            _PROBLEM_JSON: {
                "schema": {
                    "allOf": [
                        reference(Problem),
                        {"properties": {"code": {"enum": [code.value for code in codes]}}},
                    ]
                },
                "examples": {
                    code.value: {
                        "summary": PROBLEMS[code].title,
                        "value": problem_example(code, path=operation.path),
                    }
                    for code in codes
                },
            }
        },
    }


def _headers(headers: Iterable[ResponseHeader]) -> Json:
    return {
        header.value: {"$ref": f"#/components/headers/{header.value}"}
        for header in (ResponseHeader.REQUEST_ID, *headers)
    }


def _header(header: ResponseHeader) -> Json:
    description, kind, example = HEADERS[header]
    return {"description": description, "schema": {"type": kind, "examples": [example]}}
