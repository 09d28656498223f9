"""The calls that ask for no API key: health and the documents."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import HTML, Operation, Response, ResponseHeader, Tag
from contracts.representations import examples
from contracts.representations.pages import Liveness, Readiness

_CACHED: Final = (ResponseHeader.ETAG, ResponseHeader.CACHE_CONTROL)
_UNCHANGED: Final = Response(304, "Your copy is current", headers=_CACHED)

_READ_LIVENESS: Final = Operation(
    operation_id="read_liveness",
    method="GET",
    path="/healthz",
    tag=Tag.HEALTH,
    summary="Ask whether the process lives",
    description="Touches no dependency: a failing one is no reason to restart this process.",
    scope=None,
    responses=(Response(200, "It lives", model=Liveness, example={"status": "live"}),),
)

_READ_READINESS: Final = Operation(
    operation_id="read_readiness",
    method="GET",
    path="/readyz",
    tag=Tag.HEALTH,
    summary="Ask whether the process can do its work",
    description=(
        "`ready`: every dependency is up. `degraded`: the broker or Redis is down, every call is "
        "still served. `not_ready`: the database is down, or the process is stopping."
    ),
    scope=None,
    responses=(
        Response(200, "Ready or degraded", model=Readiness, example=examples.READY),
        Response(503, "Not ready", model=Readiness, example=examples.NOT_READY),
    ),
)

_READ_DOCS_PAGE: Final = Operation(
    operation_id="read_docs_page",
    method="GET",
    path="/docs",
    tag=Tag.DOCUMENTS,
    summary="Open this API as a page",
    description="The page that shows this document and lets you try each call.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "The page", media_type=HTML, headers=_CACHED), _UNCHANGED),
)

_READ_OPENAPI_DOCUMENT: Final = Operation(
    operation_id="read_openapi_document",
    method="GET",
    path="/openapi.json",
    tag=Tag.DOCUMENTS,
    summary="Read the OpenAPI document",
    description="This document: OpenAPI 3.1.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "OpenAPI 3.1", headers=_CACHED), _UNCHANGED),
)

_READ_ASYNCAPI_DOCUMENT: Final = Operation(
    operation_id="read_asyncapi_document",
    method="GET",
    path="/asyncapi.json",
    tag=Tag.DOCUMENTS,
    summary="Read the AsyncAPI document",
    description="The messages of the broker: AsyncAPI 3.0.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "AsyncAPI 3.0", headers=_CACHED), _UNCHANGED),
)

SERVICE_OPERATIONS: Final = (
    _READ_LIVENESS,
    _READ_READINESS,
    _READ_DOCS_PAGE,
    _READ_OPENAPI_DOCUMENT,
    _READ_ASYNCAPI_DOCUMENT,
)
